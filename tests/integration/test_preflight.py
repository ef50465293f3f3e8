"""An etcd that a replica cannot work with is refused before anything starts; one that is full is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from leaderjob.cluster.preflight import (
    check_releases,
    is_too_old,
    refuse_short_ttl,
    refuse_without_permission,
)
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, NoSpace
from leaderjob.etcd.rpc import rpc
from leaderjob.records.keys import Keys
from tests.support.commands import leaderjob
from tests.support.etcd import each_release, etcdctl, every_release


@pytest.mark.parametrize(
    ("version", "too_old"),
    [("3.3.27", True), ("2.3.8", True), ("3.4.0", False), ("3.6.0-rc.1", False), ("4.0.0", False)],
)
def test_3_4_is_the_oldest_release(version: str, too_old: bool) -> None:
    assert is_too_old(version) is too_old


@asynccontextmanager
async def of_release(version: str) -> AsyncIterator[str]:
    """Says of itself that it is of that release; knows nothing else."""

    async def status(request: bytes, context: Any) -> bytes:
        answer: bytes = rpc.StatusResponse(version=version).SerializeToString()
        return answer

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "etcdserverpb.Maintenance", {"Status": grpc.unary_unary_rpc_method_handler(status)}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_an_older_etcd_is_named() -> None:
    async with of_release("3.5.21") as recent, of_release("3.3.27") as old:
        with pytest.raises(SettingsError, match=rf"{old} is of release 3\.3\.27, and leaderjob needs 3\.4"):
            await check_releases(Etcd, [recent, old])
        await check_releases(Etcd, [recent])


async def test_a_replica_does_not_start_on_an_older_etcd_and_the_doctor_says_so(tmp_path: Path) -> None:
    async with of_release("3.3.27") as old:
        replica = ["--id", "r1", "--etcd", old, "--state-dir", str(tmp_path / "state")]
        started, looked = await asyncio.gather(
            asyncio.to_thread(leaderjob, "run", *replica, cwd=tmp_path),
            asyncio.to_thread(leaderjob, "doctor", *replica, cwd=tmp_path),
        )
    assert started.returncode == 2
    assert "is of release 3.3.27, and leaderjob needs 3.4 or newer" in started.stderr
    assert "Traceback" not in started.stderr
    assert looked.returncode == 1
    assert "leaderjob needs etcd 3.4 or newer" in looked.stdout


@every_release("own_etcd")
async def test_a_sound_etcd_is_taken_as_it_is_and_left_so(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        before = (await client.range("/")).revision
        await check_releases(Etcd, [own_etcd.endpoint])
        await refuse_without_permission(client, Keys("n"))
        after = await client.range("/")
        assert (after.revision, after.kvs) == (before, ())


async def test_a_full_store_does_not_keep_a_replica_from_serving(own_etcd: EmbeddedEtcd) -> None:
    async with Etcd([own_etcd.endpoint]) as client:
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.ACTIVATE, alarm=rpc.NOSPACE)
        async with Etcd([own_etcd.endpoint]) as raising:
            await raising.connection.call(
                lambda stubs: stubs.maintenance.Alarm, request, repeatable=True, linearizable=False
            )
        with pytest.raises(NoSpace):
            await client.put("/key", b"")
        await refuse_without_permission(client, Keys("n"))


class Slow(EmbeddedEtcd):
    """As one is set up whose members are far apart: it waits long before it elects another leader."""

    def _command(self, client_port: int, peer_port: int) -> list[str]:
        far_apart = ["--heartbeat-interval=400", "--election-timeout=4000"]
        return [*super()._command(client_port, peer_port), *far_apart]


@pytest.mark.parametrize("binary", each_release())
@pytest.mark.timeout_s(40)
async def test_a_ttl_below_etcds_minimum_is_refused_with_what_to_do(tmp_path: Path, binary: Path) -> None:
    """One and a half times the election timeout of 4 s."""

    async with Slow(tmp_path / "etcd", binary=binary, fsync=False) as server:
        target = ["run", "--id", "r1", "--etcd", server.endpoint, "--state-dir", str(tmp_path / "state")]
        done = await asyncio.to_thread(leaderjob, *target, "--ttl", "5s", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        for part in (
            "setting 'election.ttl': 5s is less than etcd grants, which is 6s at least",
            "Set election.ttl to 6s or more, or lower etcd's --election-timeout",
        ):
            assert part in done.stderr
        looked = await asyncio.to_thread(leaderjob, "doctor", *target[1:], "--ttl", "5s", cwd=tmp_path)
        assert (looked.returncode, "Set election.ttl to 6s or more" in looked.stdout) == (1, True)
        async with Etcd([server.endpoint]) as client:
            await refuse_short_ttl(client, 6)
            assert await asyncio.to_thread(etcdctl, server.endpoint, "lease", "list") == "found 0 leases\n"
