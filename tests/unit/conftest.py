"""Fixtures that several unit tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.results.store import Store
from tests.support.activations import Place
from tests.support.transfers import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for close in reversed(made.to_close):
        close()


@pytest.fixture
def leader(bench: Bench) -> Store:
    return bench.store("leader")


@pytest.fixture
def follower(bench: Bench) -> Store:
    return bench.store("follower")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "store")
    made.add(1, 2, 3)
    yield made
    made.store.close()
