"""A healthy cluster under load, for long: nobody may lose office, and no fire may be missed.

Three replicas, etcd with one member or three, jobs on short schedules, and for each core of this machine a process that
burns one. Ends with code 1 where leadership changed, a fire is missing, or a run did not succeed.

    python benchmarks/soak.py [--minutes 20] [--members 3] [--json FILE]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from endurance.evidence import Evidence, Verdict, judge
from takeover.members import Members

from leaderjob.clock import utcnow
from leaderjob.embedded.child import spawn
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd
from leaderjob.records.feed import read_feed
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.view import View

TTL_S = 10
PERIODS = {"fives": timedelta(seconds=5), "sevens": timedelta(seconds=7), "minutes": timedelta(minutes=1)}
_START_TIMEOUT_S = 60.0
_SETTLE_S = 3.0
_ALLOWANCE = timedelta(seconds=5)
_NAMESPACE = "soak"
_BURN = "while True: pass"
_JOBS = """
from leaderjob import job

@job(schedule="every 5s")
def fives(ctx):
    sum(range(100_000))

@job(schedule="every 7s")
def sevens(ctx):
    sum(range(100_000))

@job(schedule="* * * * *")
def minutes(ctx):
    sum(range(100_000))
"""


class NotHealthy(LeaderjobError):
    """The cluster did not come up, so there is nothing to soak; the message says how far it came."""


@contextmanager
def burning(count: int, directory: Path) -> Iterator[None]:
    """So many processes that use as much of a core as they get."""
    burners: list[subprocess.Popen[bytes]] = []
    try:
        with (directory / "burners.log").open("wb") as log:
            for _ in range(count):
                command = [sys.executable, "-I", "-S", "-c", _BURN]
                burners.append(spawn(command, log, environment=os.environ))
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


@asynccontextmanager
async def observed(endpoints: Sequence[str], evidence: Evidence) -> AsyncIterator[View]:
    """The namespace, followed into the evidence, from when three stand in line and one leads.

    :raises NotHealthy: they do not, in time.
    """
    view, healthy = View(), asyncio.Event()

    async def follow(etcd: Etcd) -> None:
        async with aclosing(read_feed(etcd, Keys(_NAMESPACE), view)) as batches:
            async for batch in batches:
                leader = view.leader
                if len(view.queue) == 3 and leader is not None and leader.record.leading_since:
                    healthy.set()
                if healthy.is_set():
                    evidence.saw_leader(view.leader_key.create_revision if view.leader_key else 0)
                for change in batch.changes:
                    if change.place.kind is Kind.RUN and change.now is not None:
                        evidence.saw_run(change.now.record)  # type: ignore[arg-type]

    async with Etcd(endpoints) as etcd, asyncio.TaskGroup() as group:
        following = group.create_task(follow(etcd))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await healthy.wait()
        except TimeoutError:
            following.cancel()
            raise NotHealthy(
                f"after {_START_TIMEOUT_S:g} s {len(view.queue)} of 3 replicas were in line, so there is no "
                "healthy cluster: is something else using this machine?"
            ) from None
        yield view
        following.cancel()


async def soak(
    directory: Path, *, minutes: float, members: int, burners: int, etcd: Path | None = None
) -> Verdict:
    """:raises LeaderjobError: something could not be started, or a replica has ended."""
    evidence = Evidence(PERIODS)
    work = directory / "work"
    work.mkdir()
    (work / "soaked.py").write_text(_JOBS)
    settings = work / "settings.toml"
    settings.write_text('[log]\nlevel = "debug"\n')
    async with Members(directory / "etcd", count=members, binary=etcd) as servers:
        arguments = ["--etcd", ",".join(servers.endpoints), "--namespace", _NAMESPACE, "--ttl", f"{TTL_S}s"]
        arguments += ["--jobs", "soaked", "--config", str(settings)]
        replicas = [ReplicaProcess(name, work, arguments) for name in ("r1", "r2", "r3")]
        try:
            for replica in replicas:
                replica.start()
            async with observed(servers.endpoints, evidence):
                await asyncio.sleep(_SETTLE_S)
                since = utcnow()
                with burning(burners, directory):
                    await asyncio.sleep(minutes * 60)
                until = utcnow() - _ALLOWANCE
            for replica in replicas:
                replica.check()
        finally:
            await stop_all(replicas)
        logs = [replica.log_path.read_text(errors="replace") for replica in replicas]
    return judge(
        evidence,
        logs,
        since=since,
        until=until,
        minutes=minutes,
        members=members,
        burners=burners,
        ttl_s=TTL_S,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing went wrong; 1: something did; 2: it could not be tried."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--minutes", type=float, default=20.0, help="how long [20]")
    parser.add_argument("--members", type=int, choices=(1, 3), default=3, help="of etcd [3]")
    parser.add_argument("--burners", type=int, default=cores, help=f"processes that burn a core [{cores}]")
    parser.add_argument("--etcd", type=Path, metavar="PROGRAM", help="the etcd server to run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there as well")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            verdict = asyncio.run(
                soak(
                    Path(scratch),
                    minutes=options.minutes,
                    members=options.members,
                    burners=options.burners,
                    etcd=options.etcd,
                )
            )
    except LeaderjobError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(verdict.render())
    if options.json is not None:
        options.json.write_text(json.dumps(asdict(verdict), indent=2) + "\n")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
