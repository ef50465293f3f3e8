"""The hold rule: no worker for a job while a worker of an older term may still be alive.

A verdict grants office, not the right to work. A new term starts nothing for a job that has an attempt
of an older term under way, until that term recorded that its workers are gone, or the guard of that attempt
attests it (``execution/attestation.py``), or the old term's TTL × 1.01 has passed since this one was won: by then
the guard has killed them at the trust deadline, on clocks whose rates differ by less than 1 %. Every other
job starts at once.

A term holds itself to it too: where the guard could not reap all of a worker's processes, the next one
waits as long, counted from that end.
"""

import asyncio
from collections.abc import Collection

from leaderjob.clock import boottime
from leaderjob.engine.office import Office
from leaderjob.execution.attestation import attested
from leaderjob.model.run import Attempt, Run
from leaderjob.telemetry.events import Events, emit

_CLOCK_RATE_SLACK = 1.01
_LOOK_AGAIN_S = 1.0


def hold_until(attempt: Attempt, since: float) -> float:
    """The boot time in seconds before which nothing may start beside that attempt."""
    return since if attempt.workers_gone else since + attempt.ttl_s * _CLOCK_RATE_SLACK


def unreaped(runs: Collection[Run]) -> list[Run]:
    """The runs of one job whose latest attempt may have left processes behind, as far as anybody has to wait for them.

    Whoever began an attempt in a newer term had waited for those of the older ones, or they would be waited for again
    at each takeover, until their records are pruned.
    """
    newest = max((attempt.token for run in runs for attempt in run.attempts), default=0)
    return [
        run
        for run in runs
        if (latest := run.attempt) is not None and not latest.workers_gone and latest.token == newest
    ]


async def hold(office: Office, run: Run) -> None:
    """Return when the workers of the run's latest attempt, if an older term began it, are surely gone."""
    attempt = run.attempt
    if attempt is None or attempt.token == office.token:
        return
    until = hold_until(attempt, office.leadership.won_at)
    waiting = asyncio.ensure_future(_wait(office, run, until, attempt.token))
    tasks: list[asyncio.Future[None]] = [waiting]
    if attempt.guard is not None and attempt.nonce is not None and boottime() < until:
        tasks.append(asyncio.ensure_future(attested(attempt.guard, attempt.nonce)))
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        if not waiting.done():
            emit(Events.WORKERS_GONE, job=run.job, run=run.id, term=office.token, former_term=attempt.token)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hold_after_own(office: Office, run: Run, unreaped_since: float) -> None:
    """Return when the processes are surely gone that an attempt of this very term left behind.

    :param unreaped_since: boot time in seconds at which that attempt ended.
    """
    until = unreaped_since + office.leadership.session.ttl_s * _CLOCK_RATE_SLACK
    await _wait(office, run, until, office.token)


async def _wait(office: Office, run: Run, until: float, former_term: int) -> None:
    if boottime() < until:
        emit(
            Events.HOLDING_BACK,
            job=run.job,
            run=run.id,
            term=office.token,
            former_term=former_term,
            seconds=round(until - boottime(), 1),
        )
    while (left_s := until - boottime()) > 0:  # noqa: ASYNC110 - a clock is awaited, not an event
        await asyncio.sleep(min(left_s, _LOOK_AGAIN_S))
