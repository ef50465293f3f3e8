"""The hold rule: no worker for a job while a worker of an older term may still be alive.

A verdict grants office, not the right to work. A new term starts nothing for a job that has an attempt
of an older term under way, until that term recorded that its workers are gone, or until the old term's
TTL × 1.01 has passed since this one was won: by then the guard has killed them at the trust deadline,
on clocks whose rates differ by less than 1 %. Every other job starts at once.
"""

import asyncio

from leaderjob.clock import boottime
from leaderjob.engine.office import Office
from leaderjob.model.run import Attempt, Run
from leaderjob.telemetry.events import Events, emit

_CLOCK_RATE_SLACK = 1.01
_LOOK_AGAIN_S = 1.0


def hold_until(attempt: Attempt, won_at: float) -> float:
    """The boot time in seconds before which nothing may start beside that attempt."""
    return won_at if attempt.workers_gone else won_at + attempt.ttl_s * _CLOCK_RATE_SLACK


async def hold(office: Office, run: Run) -> None:
    """Return when the workers of the run's latest attempt, which an older term began, are surely gone."""
    attempt = run.attempt
    if attempt is None or attempt.token == office.token:
        return
    until = hold_until(attempt, office.leadership.won_at)
    if boottime() < until:
        emit(
            Events.HOLDING_BACK,
            job=run.job,
            run=run.id,
            term=office.token,
            former_term=attempt.token,
            seconds=round(until - boottime(), 1),
        )
    while (left_s := until - boottime()) > 0:  # noqa: ASYNC110 - a clock is awaited, not an event
        await asyncio.sleep(min(left_s, _LOOK_AGAIN_S))
