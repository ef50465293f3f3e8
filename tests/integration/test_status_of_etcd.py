"""``leaderjob status`` tells how etcd is: what it holds, who is silent, which alarms are raised."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from leaderjob.client import Client
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd, NoSpace
from leaderjob.etcd.maintenance import Alarm, EndpointStatus, Health, alarms, endpoint_status
from tests.support.commands import said
from tests.support.etcd import each_release, etcdctl, every_release
from tests.support.streams import run_with_streams

GIB = 1024**3


@every_release("own_etcd")
def test_the_members_own_words_are_those_that_etcdctl_shows(own_etcd: EmbeddedEtcd) -> None:
    def shown() -> Any:
        return json.loads(etcdctl(own_etcd.endpoint, "endpoint", "status", "-w", "json"))[0]["Status"]

    async def main() -> tuple[EndpointStatus, tuple[Alarm, ...], Any]:
        async with Etcd([own_etcd.endpoint]) as one, Etcd([own_etcd.endpoint]) as other:
            for _ in range(20):
                await one.put("/key", b"x" * 100_000)
            # etcd writes in batches. What was written and is compacted then is no longer in use, while the
            # file stays as large as it was; how much that is, is counted with the next batch.
            while (await asyncio.to_thread(shown))["dbSize"] < 20 * 100_000:
                pass
            last = await one.put("/key", b"")
            await asyncio.to_thread(etcdctl, own_etcd.endpoint, "compact", "--physical", str(last))
            while True:
                await one.put("/key", b"")
                before = await asyncio.to_thread(shown)
                found = await endpoint_status(one.connection)
                after = await asyncio.to_thread(shown)
                if before == after and found.db_in_use_bytes < found.db_size_bytes:
                    return found, await alarms(other.connection), after

    found, raised, told = run_with_streams(main())
    assert (found.endpoint, found.version, found.member, found.cluster) == (
        own_etcd.endpoint,
        told["version"],
        told["header"]["member_id"],
        told["header"]["cluster_id"],
    )
    assert (found.leader, found.raft_term) == (told["leader"], told["raftTerm"])
    assert (found.db_size_bytes, found.db_in_use_bytes) == (told["dbSize"], told["dbSizeInUse"])
    assert (found.errors, raised) == ((), ())


@pytest.mark.parametrize("binary", each_release())
async def test_a_database_at_its_quota_is_told_with_what_to_do(tmp_path: Path, binary: Path) -> None:
    async def fill(server: EmbeddedEtcd) -> None:
        async with Etcd([server.endpoint]) as client:
            with pytest.raises(NoSpace):
                for number in range(1000):
                    await client.put(f"/{number}", b"x" * 100_000)

    target: list[str] = []
    facts: list[dict[str, object]] = []
    async with EmbeddedEtcd(tmp_path, binary=binary, fsync=False, quota_bytes=1024**2) as server:
        await fill(server)
        target.append(server.endpoint)
        async with Client(target) as client:
            facts.append((await client.status())["etcd"])
    (etcd,) = facts
    member = etcd["endpoints"][0]["member"]  # type: ignore[index]
    assert etcd["alarms"] == [{"member": member, "alarm": "NOSPACE"}]
    (warning,) = etcd["warnings"]  # type: ignore[misc]
    for part in ("has reached its quota", target[0], "etcdctl compact", "etcdctl alarm disarm"):
        assert part in warning


def test_status_shows_one_line_of_a_sound_etcd(etcd: EmbeddedEtcd, namespace: str) -> None:
    done = said(["status", "--etcd", etcd.endpoint, "--namespace", namespace])
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("etcd: ")]
    assert line.startswith("etcd: 1 of 1 endpoints answer, version 3.")
    assert " in use)" in line


def test_an_endpoint_that_is_silent_is_named_and_the_rest_is_told(etcd: EmbeddedEtcd, namespace: str) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    arguments = ["status", "--etcd", f"{nobody},{etcd.endpoint}", "--namespace", namespace]
    done = said(arguments)
    assert done.returncode == 0
    assert "etcd: 1 of 2 endpoints answer" in done.stdout
    assert done.stderr == f"warning: etcd at {nobody} does not answer: connection refused\n"
    told = json.loads(said([*arguments, "--json"]).stdout)["etcd"]
    assert told["silent"] == {nobody: "connection refused"}
    assert [one["endpoint"] for one in told["endpoints"]] == [etcd.endpoint]


@asynccontextmanager
async def gateway(server: str) -> AsyncIterator[str]:
    """A gateway before etcd that lets reads through, and nothing else."""

    async def read(request: bytes, _: object) -> bytes:
        async with grpc.aio.insecure_channel(server, options=(("grpc.enable_http_proxy", 0),)) as channel:
            return bytes(await channel.unary_unary("/etcdserverpb.KV/Range")(request))

    async def refuse(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        raise AssertionError("abort raises")

    listening = grpc.aio.server()
    unary = grpc.unary_unary_rpc_method_handler
    listening.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Range": unary(read)}),
            grpc.method_handlers_generic_handler(
                "etcdserverpb.Maintenance", {"Status": unary(refuse), "Alarm": unary(refuse)}
            ),
        )
    )
    port = listening.add_insecure_port("127.0.0.1:0")
    await listening.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await listening.stop(None)


async def test_whoever_may_not_ask_for_etcds_state_gets_the_status_all_the_same(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with gateway(etcd.endpoint) as endpoint, Client([endpoint], namespace) as client:
        found = await client.status()
    assert (found["namespace"], found["leader"]) == (namespace, None)
    told = found["etcd"]
    assert isinstance(told, dict)
    assert (told["endpoints"], told["warnings"], told["silent"]) == ([], [], {})
    assert "permission" in told["unknown"]


def status(size_bytes: int, *, quota_bytes: int | None = None, errors: tuple[str, ...] = ()) -> Health:
    """Of one sound member, but for what is said."""
    one = EndpointStatus("a:1", 0xAB, 0xC, "3.4.23", size_bytes, GIB, quota_bytes, 0xAB, 2, errors)
    return Health((one,), {}, (), None)


def test_a_database_is_warned_of_from_four_fifths_of_its_quota_on() -> None:
    assert list(status(int(1.6 * GIB) - 1).warnings()) == []
    (warning,) = status(int(1.6 * GIB) + 1).warnings()
    for part in ("a:1 has 1.6 GiB", "1.0 GiB in use", "2.0 GiB if that is the default", "etcdctl defrag"):
        assert part in warning
    assert list(status(3 * GIB, quota_bytes=8 * GIB).warnings()) == []
    (warning,) = status(7 * GIB, quota_bytes=8 * GIB).warnings()
    assert "at its quota, 8.0 GiB, it refuses" in warning


def test_what_a_member_says_of_itself_is_told_but_for_alarms_which_are_told_by_themselves() -> None:
    told = status(GIB, errors=("memberID:1 alarm:NOSPACE ", "etcdserver: no leader")).warnings()
    assert list(told) == ["etcd at a:1 reports: etcdserver: no leader"]


@pytest.mark.parametrize(("kind", "sentence"), [("CORRUPT", "members differ"), ("alarm 3", "alarm list")])
def test_other_alarms_are_told_with_the_member_that_raised_them(kind: str, sentence: str) -> None:
    (warning,) = Health((), {}, (Alarm(0xCD, kind),), None).warnings()
    assert sentence in warning
    assert "member cd" in warning
