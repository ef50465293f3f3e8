"""Candidates of others: three processes each; who leads is killed, and the next one's word is waited for."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from contest.contestants import Contestant, NotInstalled, interpreter

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import packaged_program
from takeover.cluster import WentOtherwise
from takeover.members import Members
from takeover.servers import Servers

TTL_S = 10
"""Of everybody whose session can be told one; that of leaderjob by default."""

_ETCDCTL_ELECT_TTL_S = 60
_SETTLE_S = 2.0
_SLACK_S = 15.0
_TOLD_LINES = 3
_HERE = Path(__file__).resolve().parent.parent
TOOZ = ("tooz[redis]==9.1.0", "redis==8.1.0", "kazoo==2.11.0", "etcd3gw==2.7.0", "requests==2.34.2")
"""What the virtualenv of tooz and kazoo has in it."""


@dataclass(frozen=True, slots=True)
class Rival:
    """:param ttl_s: of its session. :param server: what it stands on: "etcd", "redis" or "zookeeper".
    :param module: its program in ``takeover.candidates``; empty: it is ``etcdctl``.
    :param arguments: of the program; ``{address}`` is the server's.
    """

    name: str
    ttl_s: int
    server: str
    arguments: tuple[str, ...]
    module: str = ""


def rivals() -> list[Rival]:
    etcdctl = ("--endpoints", "{address}")
    return [
        Rival("etcdctl elect", _ETCDCTL_ELECT_TTL_S, "etcd", (*etcdctl, "elect", "benchmark", "me")),
        Rival("etcdctl lock", TTL_S, "etcd", (*etcdctl, "lock", "benchmark", f"--ttl={TTL_S}")),
        Rival("tooz, Redis", TTL_S, "redis", (f"redis://{{address}}?timeout={TTL_S}",), "with_tooz"),
        Rival("tooz, ZooKeeper", TTL_S, "zookeeper", (f"kazoo://{{address}}?timeout={TTL_S}",), "with_tooz"),
        Rival("kazoo", TTL_S, "zookeeper", ("{address}", str(TTL_S)), "with_kazoo"),
    ]


class Candidate:
    """One process; its first line says that it leads."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log
        self.leads_at = asyncio.ensure_future(self._leads_at())

    async def _leads_at(self) -> float:
        """:raises WentOtherwise: it has ended."""
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        at = boottime()
        if not line:
            words = " / ".join(self._log.read_text(errors="replace").splitlines()[-_TOLD_LINES:])
            raise WentOtherwise(f"a candidate ended; last words of them all: {words or 'none'}")
        return at

    async def end(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.leads_at.cancel()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await asyncio.gather(self.leads_at, return_exceptions=True)
        await self.process.wait()


class Race:
    """Three candidates of a rival on its server. :param command: of each of them."""

    def __init__(self, rival: Rival, command: Sequence[str], directory: Path) -> None:
        self._rival = rival
        self._command = command
        self._log = directory / "candidates.log"
        self._candidates: list[Candidate] = []

    async def trial(self) -> float:
        """Seconds from SIGKILL of who leads to the word of who leads next. :raises WentOtherwise: there is none."""
        while len(self._candidates) < 3:
            self._candidates.append(await self._candidate())
        leader = await self._first(self._candidates)
        await asyncio.sleep(
            _SETTLE_S
        )  # who has just come stands in line by then: nothing tells that of all of them
        self._candidates.remove(leader)
        if any(candidate.leads_at.done() for candidate in self._candidates):
            raise WentOtherwise("two of them lead, or one has ended")
        killed_at = boottime()
        await leader.end()
        return (await self._first(self._candidates)).leads_at.result() - killed_at

    async def end(self) -> None:
        for candidate in self._candidates:
            await candidate.end()
        self._candidates.clear()

    async def _first(self, candidates: Sequence[Candidate]) -> Candidate:
        limit_s = self._rival.ttl_s + _SLACK_S
        done, _ = await asyncio.wait(
            [candidate.leads_at for candidate in candidates],
            timeout=limit_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not done:
            raise WentOtherwise(f"nobody led within {limit_s:g} s")
        first = next(candidate for candidate in candidates if candidate.leads_at in done)
        first.leads_at.result()
        return first

    async def _candidate(self) -> Candidate:
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )
        return Candidate(process, self._log)


@asynccontextmanager
async def race(rival: Rival, directory: Path, *, servers: Servers, venvs: Path) -> AsyncIterator[Race]:
    """Its server and its candidates, all gone at the end.

    :param venvs: where its virtualenv is, or will be made.
    :raises NotInstalled: something that it needs is not there; the message says how to get it.
    """
    directory.mkdir()  # noqa: ASYNC240 - nothing is measured yet
    program = await _program(rival, venvs)
    async with _server(rival, directory / "server", servers) as address:
        arguments = [argument.format(address=address) for argument in rival.arguments]
        running = Race(rival, [*program, *arguments], directory)
        try:
            yield running
        finally:
            await running.end()


async def _program(rival: Rival, venvs: Path) -> list[str]:
    if not rival.module:
        return [str(etcdctl())]
    python = await asyncio.to_thread(python_of_tooz, venvs)
    return [str(python), "-m", f"takeover.candidates.{rival.module}"]


def etcdctl() -> Path:
    """The program. :raises NotInstalled: there is none; the message says how to get it."""
    found = shutil.which("etcdctl") or packaged_program("etcdctl")
    if found is None:
        raise NotInstalled("there is no etcdctl: apt install etcd-client")
    return Path(found)


def python_of_tooz(venvs: Path) -> Path:
    """The Python that has tooz and kazoo. :raises NotInstalled: they cannot be installed."""
    return interpreter(Contestant("tooz", "", "", TOOZ), venvs)


@asynccontextmanager
async def _server(rival: Rival, directory: Path, servers: Servers) -> AsyncIterator[str]:
    if rival.server == "etcd":
        async with Members(directory) as members:
            yield members.endpoints[0]
    elif rival.server == "redis":
        async with servers.redis(directory) as address:
            yield address
    else:
        async with servers.zookeeper(directory) as address:
            yield address


def _environment() -> Mapping[str, str]:
    """``takeover`` to import, and no settings of etcdctl's user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return {**kept, "PYTHONPATH": str(_HERE), "ETCDCTL_API": "3"}
