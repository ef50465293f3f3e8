"""One member of an etcd cluster: a process with a link and, where wanted, a disk of its own."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderjob.embedded.child import spawn
from tests.faults.harness.disk import Disk
from tests.faults.harness.link import Link
from tests.support.etcd import etcdctl

_POLL_S = 0.02
_ANSWER_TIMEOUT_S = 1.0
_START_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Status:
    """A member's own word on the cluster; ``leader`` is 0 where it knows none."""

    member_id: int
    leader: int
    raft_term: int
    revision: int


class Member:
    """:param store: its data directory. :param flags: of etcd, beside those that make a member of it.
    :param disk: is mounted for it.
    """

    def __init__(
        self,
        name: str,
        *,
        binary: Path,
        link: Link,
        store: Path,
        flags: Sequence[str],
        disk: Disk | None,
    ) -> None:
        self.name = name
        self.link = link
        self.store = store
        self.id = 0
        """As etcd numbers it; known once it is healthy."""
        self._disk = disk
        self._log = store.parent / "etcd.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = [
            str(binary),
            f"--name={name}",
            f"--data-dir={self.store}",
            f"--listen-client-urls=http://{link.addresses.listens_to_clients}",
            f"--advertise-client-urls=http://{link.addresses.for_clients}",
            f"--listen-peer-urls=http://{link.addresses.listens_to_peers}",
            f"--initial-advertise-peer-urls=http://{link.addresses.for_peers}",
            "--logger=zap",
            "--log-outputs=stderr",
            *flags,
        ]

    def __repr__(self) -> str:
        return f"Member({self.name})"

    @property
    def disk(self) -> Disk:
        assert self._disk is not None, "this member has no disk of its own: give disk_for"
        return self._disk

    @property
    def endpoint(self) -> str:
        """Where clients look for it, through whatever fault there is."""
        return self.link.addresses.for_clients

    def start(self) -> None:
        """Start the process; nothing is waited for."""
        command = self._disk.mounted(self._command) if self._disk else self._command
        program, *arguments = [*self.link.within, *command]
        found = shutil.which(program)
        assert found is not None, f"{program} is not installed"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with self._log.open("ab") as log:
            self._process = spawn([found, *arguments], log, environment=kept)
        if self._disk:
            self._disk.mounted_by = self._process.pid

    def join(self, members: Sequence["Member"], *, existing: bool) -> None:
        """Start as one of these members, of a cluster that is new or ``existing``."""
        peers = (f"{member.name}=http://{member.link.addresses.for_peers}" for member in members)
        self._command.append(f"--initial-cluster={','.join(peers)}")
        if existing:
            self._command.append("--initial-cluster-state=existing")
        self.start()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. No-op if it is."""
        if self._disk:
            self._disk.thaw()  # whoever waits for a frozen disk obeys no signal
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """SIGSTOP: its connections stay open, and it answers nothing."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    async def restart(self) -> None:
        """Kill it if it runs, and return when it is healthy again."""
        self.kill()
        self.start()
        await self.until_healthy()

    async def mend(self) -> None:
        """Undo what was done to its process, its link and its disk; its store stays as it is."""
        await self.link.heal()
        if self._disk:
            self._disk.thaw()
        if self._is_running:
            self.resume()
        else:
            self.start()

    async def until_healthy(self) -> None:
        """Return when it has answered a linearizable read. :raises AssertionError: not in time."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not await self._is_healthy():
                    assert self._is_running, f"{self.name} has ended:\n{self._last_words()}"
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(f"{self.name} is not healthy:\n{self._last_words()}") from None
        self.id = (await self.status()).member_id

    async def status(self) -> Status:
        """Asked past all faults of its link. :raises OSError: it does not answer."""
        said = await self._ask("POST", "/v3/maintenance/status", b"{}")
        header = said["header"]
        return Status(
            int(header["member_id"]),
            int(said.get("leader", 0)),
            int(said.get("raftTerm", 0)),
            int(header.get("revision", 0)),
        )

    async def knows(self, leader: "Member") -> bool:
        """Whether it runs, and follows that leader."""
        try:
            return (await self.status()).leader == leader.id
        except OSError:
            return False

    def etcdctl(self, *arguments: str) -> str:
        """What ``etcdctl`` prints, past all faults of its link."""
        return etcdctl(self.link.addresses.listens_to_clients, *arguments, within=self.link.within)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    @property
    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        assert self._is_running, f"{self.name} does not run"
        return self._process.pid

    async def _is_healthy(self) -> bool:
        try:
            said = await self._ask("GET", "/health")
        except (OSError, ValueError):
            return False
        return bool(said.get("health") == "true")

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(_ask, self.link, method, path, body)


def _ask(link: Link, method: str, path: str, body: bytes | None) -> dict[str, Any]:
    """:raises OSError: no answer, or none that is whole. :raises ValueError: it is no JSON."""
    host, _, port = link.addresses.listens_to_clients.rpartition(":")
    source = (link.unhurt_source, 0) if link.unhurt_source else None
    connection = http.client.HTTPConnection(host, int(port), _ANSWER_TIMEOUT_S, source)
    try:
        connection.request(method, path, body)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
    except http.client.HTTPException as error:
        raise OSError(f"{host}:{port} answers something else: {error}") from error
    else:
        return found
    finally:
        connection.close()
