"""etcd of our own: one member, or several that make a cluster, without waiting for their disks."""

import asyncio
import http.client
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from leaderjob.embedded.child import spawn
from leaderjob.embedded.etcd import find_binary
from leaderjob.embedded.ports import free_ports
from leaderjob.errors import LeaderjobError

_ANSWER_TIMEOUT_S = 1.0
_START_TIMEOUT_S = 20.0
_POLL_S = 0.02


class MembersNotStarted(LeaderjobError):
    """An etcd member was not healthy in time; the message names its log."""


@dataclass(slots=True)
class Member:
    """One process; :attr:`endpoint` is the same after a restart."""

    command: Sequence[str]
    endpoint: str
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with self.log.open("ab") as log:
            self.process = spawn(self.command, log, environment=kept)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. No-op if it is."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """:raises OSError: it does not answer. :raises ValueError: not in JSON."""
        connection = http.client.HTTPConnection(self.endpoint, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request(method, path, body=body)
            return json.loads(connection.getresponse().read())
        except http.client.HTTPException as error:
            raise OSError(f"{self.endpoint} broke off its answer: {error}") from error
        finally:
            connection.close()

    def is_healthy(self) -> bool:
        try:
            return bool(self.ask("GET", "/health").get("health") == "true")
        except (OSError, ValueError):
            return False

    def leads(self) -> bool:
        """Whether it is the leader of etcd's own cluster. :raises OSError: it does not answer."""
        status = self.ask("POST", "/v3/maintenance/status", b"{}")
        return bool(status["header"]["member_id"] == status.get("leader"))


class Members:
    """``async with`` starts them, and kills them at the end.

    :param host: an address of this machine that they listen on.
    :param binary: of etcd; see :func:`leaderjob.embedded.etcd.find_binary`.
    """

    def __init__(
        self, directory: Path, *, count: int = 1, host: str = "127.0.0.1", binary: Path | None = None
    ) -> None:
        program = str(find_binary(binary))
        ports = free_ports(2 * count)
        clients = [f"{host}:{port}" for port in ports[:count]]
        peers = [f"http://{host}:{port}" for port in ports[count:]]
        cluster = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        directory.mkdir(parents=True)
        self.members = [
            Member(
                command=[
                    program,
                    f"--name=m{number}",
                    f"--data-dir={directory / f'm{number}'}",
                    f"--listen-client-urls=http://{client}",
                    f"--advertise-client-urls=http://{client}",
                    f"--listen-peer-urls={peer}",
                    f"--initial-advertise-peer-urls={peer}",
                    f"--initial-cluster={cluster}",
                    "--unsafe-no-fsync",
                    "--logger=zap",
                    "--log-outputs=stderr",
                    "--log-level=warn",
                ],
                endpoint=client,
                log=directory / f"m{number}.log",
            )
            for number, (client, peer) in enumerate(zip(clients, peers, strict=True))
        ]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members]

    async def __aenter__(self) -> Self:
        try:
            for member in self.members:
                member.start()
            await self.until_healthy()
        except BaseException:
            self._kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    async def until_healthy(self) -> None:
        """:raises MembersNotStarted: not all are, in time."""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                for member in self.members:
                    while not await asyncio.to_thread(member.is_healthy):  # noqa: ASYNC110 - it has to be asked
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            logs = ", ".join(str(member.log) for member in self.members)
            raise MembersNotStarted(
                f"etcd was not healthy after {_START_TIMEOUT_S:g} s, so nothing can be measured: see {logs}"
            ) from None

    async def leader(self) -> Member:
        """The member that leads. :raises MembersNotStarted: none says so."""
        for member in self.members:
            if await asyncio.to_thread(member.leads):
                return member
        raise MembersNotStarted("no member of etcd says that it leads: is one of them stopped?")

    def _kill(self) -> None:
        for member in self.members:
            member.kill()
