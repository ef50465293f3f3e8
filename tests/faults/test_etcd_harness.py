"""The harness does what it says, or the tests that use it would show nothing; and it leaves nothing behind."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from leaderjob.etcd import AmbiguousWrite, Etcd, EtcdUnavailable
from tests.faults.harness import each_network, members
from tests.faults.harness.members import Network
from tests.support.needs import needs
from tests.support.streams import run_with_streams


@each_network
@pytest.mark.parametrize(("sending", "hearing", "done"), [(True, False, 1), (False, True, 0)])
async def test_what_is_sent_to_a_member_arrives_unless_it_is_cut_off_from_hearing(
    tmp_path: Path, network: Network, sending: bool, hearing: bool, done: int
) -> None:
    async with members(tmp_path, 1, network=network) as etcd:
        (member,) = etcd.every
        async with Etcd([member.endpoint], call_timeout_s=0.3) as client:
            await client.put("/key", b"")
            before = (await member.status()).revision
            await member.link.cut(sending=sending, hearing=hearing)
            with pytest.raises(AmbiguousWrite):
                await client.put("/key", b"")
            assert (await member.status()).revision == before + done
            await member.link.heal()
        async with Etcd([member.endpoint]) as client:
            assert await client.get("/key") is not None


@each_network
async def test_who_asks_a_member_that_rejects_is_told_at_once(tmp_path: Path, network: Network) -> None:
    async with members(tmp_path, 1, network=network) as etcd:
        (member,) = etcd.every
        async with Etcd([member.endpoint], call_timeout_s=10) as client:
            await client.put("/key", b"")
            await member.link.reject()
            with pytest.raises(EtcdUnavailable, match=r"reset|refused"):
                async with asyncio.timeout(5):
                    await client.get("/key")
            await member.link.heal()
            await member.until_healthy()


@needs("machines", "disks")
def test_nothing_that_was_made_for_a_cluster_outlives_it_even_where_a_test_fails(tmp_path: Path) -> None:
    class Failed(Exception):
        pass

    made: list[str] = []

    async def main() -> None:
        async with members(tmp_path, 1, disk_for="log") as etcd:
            (member,) = etcd.every
            made.extend((member.link.within[-1], str(member.disk.image), str(member.link.unhurt_source)))
            assert all(is_there())
            member.disk.freeze()
            raise Failed

    def is_there() -> tuple[bool, bool, bool]:
        namespace, image, address = made
        return (
            namespace in output("ip", "netns", "list").split(),
            image in output("losetup", "--list", "--noheadings", "--output", "BACK-FILE"),
            f"{address}/" in output("ip", "-oneline", "address"),
        )

    with pytest.raises(Failed):
        run_with_streams(main())
    # The kernel takes namespaces apart after whoever removed them has gone on.
    give_up_at = time.monotonic() + 5
    while any(is_there()):
        assert time.monotonic() < give_up_at, f"namespace, disk, address: {is_there()}"
        time.sleep(0.05)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
