"""A server for each module, which may be compacted, paused, and counted on to be written by nobody else."""

import asyncio
from collections.abc import Iterator

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.property.profile import is_deep
from tests.support.etcd import binaries, new_server, packaged


@pytest.fixture(
    scope="module",
    params=binaries() if is_deep() else [packaged("etcd")],
    ids=lambda path: "packaged" if path == packaged("etcd") else "system",
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedEtcd]:
    made = new_server(tmp_path_factory.mktemp("etcd"), request.param)
    asyncio.run(made.start())
    try:
        yield made
    finally:
        made.kill()
