"""Many jobs, mostly idle: the leader has to keep its office, and the jobs have to be armed soon.

An etcd, and two replicas with their default settings. Their jobs are due once a year, and have finished runs in etcd
before a replica starts. At the end the leader is killed. Ends with code 1 where a limit is exceeded: leadership may
change by that kill only, and readiness, the start of all jobs and the takeover have a minute each.

    python benchmarks/scale.py [--jobs 500] [--runs 100] [--minutes 3] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from crowd.observing import LoopWatch, address_of, leaders, until_armed, until_ready
from crowd.past import MODULE, name_of, write_jobs, write_past
from endurance.evidence import least_trust_s
from takeover.members import Members

from leaderjob.client import Client
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd
from leaderjob.records.keys import Keys
from leaderjob.version import __version__

LIMIT_S = 60.0
_GIVE_UP_AFTER_S = 300.0
_NAMESPACE = "scale"


class NotInTime(LeaderjobError):
    """A step took so long that there is nothing to measure; the message says which one."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One replica for a while. :param worst_answer_s: how long its event loop took to answer, at most."""

    replica: str
    what: str
    worst_answer_s: float
    cpu_percent: float
    resident_mb: float


@dataclass(frozen=True, slots=True)
class Figures:
    """:param takeover_s: from the kill to the moment when all jobs were armed by the next term.

    :param first_run_s: from the kill to the end of a run that was triggered once they were.
    :param leader_changes: before the kill.
    """

    jobs: int
    runs: int
    minutes: float
    ready_s: float
    armed_s: float
    follower_ready_s: float
    takeover_s: float
    first_run_s: float
    leader_changes: int
    least_trust_s: float | None
    phases: list[Phase]

    def problems(self) -> list[str]:
        found = []
        if self.leader_changes:
            found.append(f"leadership changed {self.leader_changes} times before the leader was killed")
        for what, took_s in (
            ("the leader was ready", self.ready_s),
            ("all jobs were armed", self.armed_s),
            ("the follower was ready", self.follower_ready_s),
            ("the next term had armed all jobs", self.takeover_s),
        ):
            if took_s > LIMIT_S:
                found.append(f"{what} after {took_s:.0f} s: the limit is {LIMIT_S:.0f} s")
        return found

    def render(self) -> str:
        least = "-" if self.least_trust_s is None else f"{self.least_trust_s:.2f} s of 8"
        lines = [
            f"leaderjob {__version__}: {self.jobs} jobs with {self.runs} finished runs each, {self.minutes:g} minutes",
            f"  leader changes             {self.leader_changes}",
            f"  the least trust left       {least}",
            f"  leader ready               {self.ready_s:.1f} s after its start",
            f"  all jobs armed             {self.armed_s:.1f} s after its start",
            f"  follower ready             {self.follower_ready_s:.1f} s after its start",
            f"  killed: all jobs armed     {self.takeover_s:.1f} s later by the next term",
            f"  killed: a triggered run    over {self.first_run_s:.1f} s later",
            *(
                f"  {phase.replica} {phase.what:<22} slowest answer {phase.worst_answer_s * 1000:,.0f} ms, "
                f"{phase.cpu_percent:.1f} % of a core, {phase.resident_mb:.0f} MB"
                for phase in self.phases
            ),
            *(f"not as it should be: {problem}" for problem in self.problems()),
        ]
        return "\n".join(lines)


class Watched:
    """A replica, its event loop, and what it uses."""

    def __init__(self, replica: ReplicaProcess) -> None:
        self.replica = replica
        self.started_at = time.monotonic()
        self._loop: LoopWatch | None = None
        self._phase = (self.started_at, 0.0)
        replica.start()

    async def until_ready(self, etcd: Etcd, keys: Keys) -> float:
        """The seconds from its start until it said that it is ready."""
        address = await address_of(etcd, keys, self.replica)
        self._loop = LoopWatch(address)
        self._loop.start()
        await until_ready(address)
        return self.age_s

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.started_at

    def end_phase(self, what: str) -> Phase:
        """What it did since the phase before."""
        since, used_s = self._phase
        assert self._loop is not None and self.replica.pid is not None
        now, total_s = time.monotonic(), _cpu_s(self.replica.pid)
        self._phase = (now, total_s)
        return Phase(
            replica=self.replica.name,
            what=what,
            worst_answer_s=self._loop.worst_s(since, now),
            cpu_percent=(total_s - used_s) / (now - since) * 100,
            resident_mb=_resident_mb(self.replica.pid),
        )

    def stop_watching(self) -> None:
        if self._loop is not None:
            self._loop.stop()


async def measure(
    directory: Path, *, jobs: int, runs: int, minutes: float, binary: Path | None = None
) -> Figures:
    """:raises LeaderjobError: a process could not be started or ended, or something took far too long."""
    keys, work = Keys(_NAMESPACE), directory / "work"
    work.mkdir()
    write_jobs(work, jobs)
    (work / "settings.toml").write_text('[log]\nlevel = "debug"\n')
    async with Members(directory / "etcd", binary=binary) as servers, Etcd(servers.endpoints) as etcd:
        await write_past(etcd, keys, jobs=jobs, runs=runs)
        arguments = ["--etcd", servers.endpoints[0], "--namespace", _NAMESPACE, "--jobs", MODULE]
        arguments += ["--config", str(work / "settings.toml")]
        replicas = [ReplicaProcess(name, work, arguments) for name in ("first", "second")]
        watched: list[Watched] = []
        try:
            async with leaders(etcd, keys) as seen, Client(servers.endpoints, _NAMESPACE) as client:
                async with _at_most("the leader and its jobs"):
                    watched.append(first := Watched(replicas[0]))
                    ready_s = await first.until_ready(etcd, keys)
                    token = await until_armed(etcd, keys, jobs)
                    armed_s = first.age_s
                phases = [first.end_phase("starts and leads")]
                async with _at_most("the follower"):
                    watched.append(second := Watched(replicas[1]))
                    follower_ready_s = await second.until_ready(etcd, keys)
                phases.append(second.end_phase("starts and follows"))
                first.end_phase("beside it")
                await asyncio.sleep(minutes * 60)
                phases += [first.end_phase("leads"), second.end_phase("follows")]
                leader_changes = len([leader for leader in seen if leader]) - 1
                first.stop_watching()
                killed_at = time.monotonic()
                first.replica.kill()
                async with _at_most("the takeover"):
                    await until_armed(etcd, keys, jobs, after=token)
                    takeover_s = time.monotonic() - killed_at
                    name = name_of(jobs - 1)
                    await client.wait_for_run(name, await client.trigger(name))
                first_run_s = time.monotonic() - killed_at
                phases.append(second.end_phase("takes over"))
        finally:
            for each in watched:
                each.stop_watching()
            await stop_all(replicas)
        return Figures(
            jobs=jobs,
            runs=runs,
            minutes=minutes,
            ready_s=ready_s,
            armed_s=armed_s,
            follower_ready_s=follower_ready_s,
            takeover_s=takeover_s,
            first_run_s=first_run_s,
            leader_changes=leader_changes,
            least_trust_s=min(
                (
                    left_s
                    for each in replicas
                    if (left_s := least_trust_s(each.log_path.read_text())) is not None
                ),
                default=None,
            ),
            phases=phases,
        )


@asynccontextmanager
async def _at_most(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_GIVE_UP_AFTER_S):
            yield
    except TimeoutError:
        raise NotInTime(f"{what}: not there after {_GIVE_UP_AFTER_S:g} s") from None


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: within the limits; 1: not; 2: it could not be tried."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=500, help="how many [500]")
    parser.add_argument("--runs", type=int, default=100, help="finished runs of each [100]")
    parser.add_argument(
        "--minutes", type=float, default=3.0, help="how long the leader has to keep office [3]"
    )
    parser.add_argument("--etcd", type=Path, metavar="PROGRAM", help="the etcd server to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            figures = asyncio.run(
                measure(
                    Path(scratch),
                    jobs=options.jobs,
                    runs=options.runs,
                    minutes=options.minutes,
                    binary=options.etcd,
                )
            )
    except LeaderjobError as error:
        print(f"scale: {error}", file=sys.stderr)
        return 2
    print(figures.render())
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return 1 if figures.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
