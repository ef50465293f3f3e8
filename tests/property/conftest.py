"""A server for each module, which may be compacted, paused, and counted on to be written by nobody else."""

import asyncio
from collections.abc import Iterator

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.property.profile import is_deep
from tests.support.etcd import line_of, new_server, releases


@pytest.fixture(
    scope="module",
    params=releases() if is_deep() else releases()[:1],
    ids=line_of,
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
