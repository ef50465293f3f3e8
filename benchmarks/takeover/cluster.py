"""Three replicas as real processes, and an observer who reads the keys in etcd as anybody could."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.clock import boottime, utcnow
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.etcd import Etcd, EtcdUnavailable, Put, absent
from leaderjob.model.command import Command, CommandKind
from leaderjob.model.ids import new_run_id
from leaderjob.model.member import Candidate
from leaderjob.model.run import State
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from takeover.machines import Machine

NAMES = ("r1", "r2", "r3")
BRIEF, HELD = "brief", "held"
"""The jobs: one that is over as soon as it has begun, and one that runs until it is released."""

_WHOLE_TIMEOUT_S = 30.0
_QUIET_S = 0.3
_POLL_S = 0.005
_JOBS = """
import time
from pathlib import Path
from leaderjob import job

def began(ctx, directory):
    with Path(directory, "began").open("a") as lines:
        lines.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)} {ctx.run_id} {ctx.attempt}\\n")

@job(max_leader_losses=1000)
def brief(ctx, directory: str):
    began(ctx, directory)

@job(max_leader_losses=1000)
def held(ctx, directory: str):
    began(ctx, directory)
    while not Path(directory, "released").exists():
        time.sleep(0.005)
"""


class WentOtherwise(Exception):
    """A trial was not what it was meant to be; the message says how. It is told, and not counted."""


class Cluster:
    """``async with`` connects the observer, and ends what was started.

    :param endpoints: of etcd.
    :param settings: more lines for the settings file.
    :param machines: where each replica runs, by its name; by default all run on this system.
    :param watched: whether each is to hold a stream to the one before it, before it counts as whole.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        directory: Path,
        ttl_s: int,
        *,
        settings: Sequence[str] = (),
        machines: Mapping[str, Machine] | None = None,
        watched: bool = True,
    ) -> None:
        self.ttl_s = ttl_s
        self._watched = watched
        self.etcd = Etcd(endpoints)
        self._keys = Keys(directory.name)
        self._feed = Feed(self.etcd, self._keys)
        self._directory = directory
        self.machines = machines or {}
        directory.mkdir()
        (directory / "work.py").write_text(_JOBS)
        (directory / "settings.toml").write_text("\n".join(settings))
        arguments = ["--etcd", ",".join(endpoints), "--namespace", directory.name, "--ttl", f"{ttl_s}s"]
        arguments += ["--jobs", "work", "--config", str(directory / "settings.toml")]
        self.replicas = {
            name: ReplicaProcess(name, directory, [*arguments, *self._listening(name)]) for name in NAMES
        }
        self._to_close = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._to_close.enter_async_context(self.etcd)
        following = asyncio.create_task(self._feed.run(), name="observer")
        self._to_close.push_async_callback(asyncio.wait, [following])
        self._to_close.callback(following.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await stop_all(list(self.replicas.values()))
        self.kill_all()
        await self._to_close.aclose()

    def kill_all(self) -> None:
        """SIGKILL, and every machine on the network again: the next :meth:`whole` begins anew."""
        for replica in self.replicas.values():
            replica.kill()
        for machine in self.machines.values():
            machine.plug_in()

    async def whole(self) -> tuple[ReplicaProcess, ReplicaProcess]:
        """Start who does not run; returns who leads and who is next, once all three are in line and watched.

        :raises WentOtherwise: that is not so in time. :raises ReplicaEnded: one ended by itself.
        """
        for replica in self.replicas.values():
            if replica.pid is None:
                machine = self.machines.get(replica.name)
                with machine.entered() if machine else nullcontext():
                    replica.start()
        try:
            async with asyncio.timeout(_WHOLE_TIMEOUT_S):
                while not (self._is_whole(view := self._feed.view) and self._are_watched(view)):
                    for replica in self.replicas.values():
                        replica.check()
                    await self._feed.changed(_POLL_S)
        except TimeoutError:
            line = ", ".join(stored.record.replica for stored in self._feed.view.queue) or "nobody"
            raise WentOtherwise(
                f"after {_WHOLE_TIMEOUT_S:g} s the replicas were not all in line, watching each other: {line} is"
            ) from None
        await asyncio.sleep(_QUIET_S)  # what a replica does when it has just come up is not what is measured
        if not self._is_whole(self._feed.view):
            raise WentOtherwise(
                "the replicas were all in line, and then they were not, though nothing was done"
            )
        leader, heir, *_ = self._feed.view.queue
        return self.replicas[leader.record.replica], self.replicas[heir.record.replica]

    async def acting_after(self, former: str) -> tuple[str, float]:
        """Who acts as leader after ``former``, and the boot time in seconds at which a watch has shown it: by the
        first write of its term, which says since when it leads."""

        def acts(view: View) -> bool:
            leader = view.leader
            return (
                leader is not None
                and leader.record.leading_since is not None
                and leader.record.replica != former
            )

        view = await self._feed.until(acts)
        seen_at = boottime()
        assert view.leader is not None
        return view.leader.record.replica, seen_at

    @property
    def leader(self) -> str | None:
        """Who leads, as far as the observer knows."""
        return stored.record.replica if (stored := self._feed.view.leader) is not None else None

    @property
    def token(self) -> int | None:
        """The create revision of the leader's key."""
        return stored.create_revision if (stored := self._feed.view.leader) is not None else None

    def liveness_of(self, replica: str) -> str:
        """Where it tells that its process is there, ``HOST:PORT``. :raises KeyError: it is no member."""
        return self._feed.view.members[replica].record.addresses["liveness"]

    async def ask_for(self, job: str) -> str:
        """Give the command to run a job; returns the run's id. Tried until etcd has taken it."""
        now = utcnow()
        command = Command(
            id=new_run_id(now),
            kind=CommandKind.TRIGGER,
            job=job,
            params={"directory": str(self._directory)},
            created=now,
            expires=now + timedelta(minutes=5),
            by="benchmark",
        )
        if job == HELD:
            (self._directory / "released").unlink(missing_ok=True)
        key = self._keys.command(command.id)
        while True:
            with suppress(EtcdUnavailable):
                # It has a random id: whichever try creates it, it is the same command.
                await self.etcd.txn([absent(key)], [Put(key, command.to_bytes())], repeatable=True)
                return command.id

    async def began(self, run: str, attempt: int) -> float:
        """When that attempt's worker did, in seconds of boot time; waits for it."""
        lines = self._directory / "began"
        while True:
            for line in lines.read_text().splitlines() if lines.exists() else ():
                at, which, number = line.split()
                if (which, number) == (run, str(attempt)):
                    return float(at)
            await asyncio.sleep(_POLL_S)

    async def ended(self, job: str, run: str) -> None:
        """Return when the run is over; a held one is released."""
        if job == HELD:
            (self._directory / "released").touch()

        def is_over(view: View) -> bool:
            stored = view.get(Kind.RUN, job, run)
            return stored is not None and stored.record.state is State.DONE

        await self._feed.until(is_over)

    def _listening(self, name: str) -> list[str]:
        machine = self.machines.get(name)
        return ["--listen", f"{machine.address}:0", "--insecure"] if machine else []

    def _is_whole(self, view: View) -> bool:
        members = view.members
        return (
            {stored.record.replica for stored in view.queue} == set(NAMES) == members.keys()
            and len(view.queue) == len(NAMES)
            and all(members[name].record.pid == replica.pid for name, replica in self.replicas.items())
            and all(
                stored.record.incarnation == members[stored.record.replica].record.incarnation
                for stored in view.queue
            )
            and view.queue[0].record.leading_since is not None
            and view.specs.keys() >= {BRIEF, HELD}
        )

    def _are_watched(self, view: View) -> bool:
        return not self._watched or all(self._is_watched(stored) for stored in view.queue[:-1])

    def _is_watched(self, candidate: Stored[Candidate]) -> bool:
        """Whether somebody is connected to the port where it tells that its process is there. No record says so:
        the operating system does, proc_net_tcp(5)."""
        port = int(candidate.record.addresses["liveness"].rpartition(":")[2])
        pid = self.replicas[candidate.record.replica].pid
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        return any(int(row[1].rpartition(":")[2], 16) == port and row[3] == "01" for row in rows)
