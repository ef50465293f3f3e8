"""Jobs that are due once a year, and the finished runs that etcd has of them before anybody starts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from leaderjob.clock import utcnow
from leaderjob.etcd import Etcd, Put
from leaderjob.model.ids import fire_id
from leaderjob.model.run import Attempt, Cause, Outcome, Run, State
from leaderjob.records.keys import Keys

MODULE = "crowd_of_jobs"
_PUTS_AT_ONCE = 100
_RUN_TOOK = timedelta(seconds=2)
_JOB = """
@job(schedule="@yearly")
def {name}(ctx):
    pass
"""


def name_of(number: int) -> str:
    return f"job_{number}"


def write_jobs(directory: Path, count: int) -> None:
    """The module of the jobs."""
    jobs = [_JOB.format(name=name_of(number)) for number in range(count)]
    (directory / f"{MODULE}.py").write_text("".join(["from leaderjob import job\n", *jobs]))


async def write_past(etcd: Etcd, keys: Keys, *, jobs: int, runs: int) -> None:
    """Write so many finished runs of each job, an hour apart."""
    now = utcnow().replace(microsecond=0)
    records = [run for number in range(jobs) for run in _runs_of(name_of(number), runs, now)]
    puts = [Put(keys.run(run.job, run.id), run.to_bytes()) for run in records]
    for start in range(0, len(puts), _PUTS_AT_ONCE):
        await etcd.txn((), puts[start : start + _PUTS_AT_ONCE])


def _runs_of(job: str, count: int, now: datetime) -> Iterator[Run]:
    for hours in range(count, 0, -1):
        fire = now - timedelta(hours=hours)
        attempt = Attempt(
            number=1,
            token=1,
            replica="former",
            ttl_s=10.0,
            started=fire,
            ended=fire + _RUN_TOOK,
            outcome=Outcome.SUCCEEDED,
            workers_gone=True,
            guard="127.0.0.1:40000",
            nonce="0123456789abcdef",
        )
        yield Run(
            id=fire_id(fire),
            job=job,
            cause=Cause.SCHEDULE,
            state=State.DONE,
            created=fire,
            fire_time=fire,
            attempts=(attempt,),
            outcome=Outcome.SUCCEEDED,
            ended=fire + _RUN_TOOK,
        )
