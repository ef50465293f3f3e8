"""What becomes of a run whose attempt lost its leader: pure rules."""

from datetime import datetime

from leaderjob.model.job import OnLeaderLoss, Policy
from leaderjob.model.run import Outcome, Run


def settle(run: Run, policy: Policy, *, token: int, now: datetime, workers_gone: bool) -> Run:
    """The run as it stands once its former attempt, if it has had any, is over: ready for another one, or ended.

    :param token: of the term that carries the run out from now on.
    :param workers_gone: whether the processes are gone that this very term left behind.
    """
    attempt = run.attempt
    if attempt is None:
        return run
    if attempt.ended is not None:
        return restart_or_abandon(run, policy, now=now)
    reason, gone = f"the leader of term {attempt.token} ({attempt.replica}) was lost", True
    if attempt.token == token:
        reason, gone = "the leader could not go on with it, and its log says why", workers_gone
    return abandon(run, policy, reason, now=now, workers_gone=gone)


def abandon(run: Run, policy: Policy, reason: str, *, now: datetime, workers_gone: bool) -> Run:
    """The latest attempt has lost its leader, or its leader's trust."""
    ended = run.end_attempt(Outcome.ABANDONED, now=now, reason=reason, workers_gone=workers_gone)
    return restart_or_abandon(ended, policy, now=now)


def restart_or_abandon(run: Run, policy: Policy, *, now: datetime) -> Run:
    """The run, ended if the job does not allow another start after the attempts that were abandoned."""
    lost = [
        each.reason for each in run.attempts if each.outcome is Outcome.ABANDONED and not each.handed_over
    ]
    handed_over = [each.reason for each in run.attempts if each.handed_over]
    if policy.on_leader_loss is OnLeaderLoss.ABANDON and (lost or handed_over):
        reason = f"{(lost or handed_over)[-1]}, and the job asks for at most one start"
    elif run.leader_losses > policy.max_leader_losses:
        last = lost[-1] if lost else "its leader was lost"
        reason = f"abandoned {run.leader_losses} times, more than the job allows; the last time {last}"
    else:
        return run
    return run.finish(Outcome.ABANDONED, now=now, reason=reason)
