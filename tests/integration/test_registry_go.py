"""The other side of the format: etcd's own proxy registers and resolves by Go's ``naming/endpoints``."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd
from leaderjob.recipes import Followed, Registry
from tests.support.etcd import each_release, etcdctl

PRETENDED = "10.0.0.5:2379"


@contextmanager
def proxy(binary: Path, etcd: EmbeddedEtcd, target: str, address: str, directory: Path) -> Iterator[None]:
    with (directory / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "grpc-proxy", "start", f"--endpoints={etcd.endpoint}", f"--listen-addr={address}",
             f"--advertise-client-url={address}", f"--resolver-prefix={target}", "--resolver-ttl=5"],
            cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


def resolved(address: str) -> set[tuple[str, str]]:
    """Name and address of each instance that the proxy sees."""
    try:
        members = json.loads(etcdctl(address, "member", "list", "-w", "json", timeout_s=5))["members"]
    except (AssertionError, subprocess.TimeoutExpired):
        return set()
    return {(member["name"], member["clientURLs"][0]) for member in members}


@pytest.mark.parametrize("binary", each_release())
async def test_go_resolves_what_is_registered_here_and_is_found_here(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, binary: Path
) -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"

    async def until(followed: Followed, count: int) -> None:
        instances = followed.instances
        while len(instances) != count:
            instances = await followed.changed(instances)

    async with Etcd([etcd.endpoint]) as client:
        registry = Registry(client, namespace=namespace)
        target = registry.prefix("proxies").rstrip("/")
        with proxy(binary, etcd, target, address, tmp_path):
            async with (
                registry.following("proxies") as followed,
                registry.register("proxies", PRETENDED, metadata={"name": "ours"}),
            ):
                await until(followed, 2)
                (theirs,) = [each for each in followed.instances if each.address == address]
                assert theirs.key == f"{target}/{address}"
                assert list(theirs.metadata) == ["name"]
                give_up_at = time.monotonic() + 15
                wanted = {("ours", PRETENDED), (theirs.metadata["name"], address)}
                while (seen := resolved(address)) != wanted:
                    assert time.monotonic() < give_up_at, seen
