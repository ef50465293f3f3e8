"""What a run comes to, as events."""

from leaderjob.model.run import Outcome, Run
from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.trace import Trace

_FAILURES = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.ABANDONED)


def tell_begun(run: Run, *, term: int) -> None:
    """Its latest attempt begins."""
    emit(
        Events.RUN_STARTED,
        job=run.job,
        run=run.id,
        attempt=run.attempt_count,
        term=term,
        cause=run.cause,
        late_s=_late_s(run),
    )


def tell_failed(run: Run, *, again_in_s: float, term: int, trace: Trace | None) -> None:
    """Its latest attempt failed, and another one follows."""
    last = run.attempts[-1]
    emit(
        Events.ATTEMPT_FAILED,
        job=run.job,
        run=run.id,
        attempt=last.number,
        term=term,
        outcome=last.outcome,
        reason=last.reason,
        again_in_s=again_in_s,
        trace=trace,
    )


def tell_over(run: Run, *, term: int, trace: Trace | None) -> None:
    """It is over."""
    identity = {"job": run.job, "run": run.id, "term": term, "outcome": run.outcome}
    if run.outcome in _FAILURES:
        emit(Events.RUN_FAILED, **identity, reason=run.reason, trace=trace)
    emit(
        Events.RUN_FINISHED,
        **identity,
        reason=run.reason,
        cause=run.cause,
        version=run.version,
        seconds=_duration_s(run),
    )


def _duration_s(run: Run) -> float | None:
    if not run.attempts or run.ended is None:
        return None
    return round((run.ended - run.attempts[0].started).total_seconds(), 3)


def _late_s(run: Run) -> float | None:
    """How late the first attempt of a fire starts; None for other attempts and other runs."""
    if run.fire_time is None or run.attempt_count != 1:
        return None
    return round(max(0.0, (run.attempts[0].started - run.fire_time).total_seconds()), 3)
