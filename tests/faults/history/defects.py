"""Defects, one function each: what leaderjob would be without one of the things that make it safe.

Each is applied once, at the start of a process, before anything runs. What a patch takes for granted is asserted
where it could be missed without a word: a defect that is none would prove nothing.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from leaderjob import leading
from leaderjob.clock import boottime
from leaderjob.engine import admission, dispatch, jobloop, publication
from leaderjob.engine.office import Office
from leaderjob.etcd import Compare, KeyValue, Op
from leaderjob.execution import guard, guarded, process_tree, start_guard
from leaderjob.model.artifact import Pointer, Staged
from leaderjob.model.run import Run
from leaderjob.model.term import Term
from leaderjob.recipes import Election, Leadership, Session, campaign, leadership
from leaderjob.records import fenced
from leaderjob.records.fenced import Committed, FencedWriter
from leaderjob.records.stored import Stored
from leaderjob.records.view import View
from leaderjob.results import activation
from leaderjob.scheduling import plan as plans
from leaderjob.serving.follower import Follower
from leaderjob.telemetry.events import Events, emit

SUSPICION_AFTER_S = 0.5


def patch(owner: object, name: str, value: object) -> None:
    """Replace what is there; where nothing is, the code has changed, and the defect would be none."""
    assert hasattr(owner, name), f"{owner} has no {name} any more"
    setattr(owner, name, value)


def half_a_fence() -> None:
    """Neither a claim nor a write looks whether somebody is before this candidate: its own key is enough."""
    original_fence = leadership.fence

    def fence(term: Term) -> tuple[Compare, ...]:
        return original_fence(term)[:1]

    def nothing(prefix: str, revision: int) -> Compare:
        return Compare(prefix, "create_revision", ">", 0, prefix=True)

    patch(fenced, "fence", fence)
    patch(campaign, "none_created_before", nothing)


def no_fence_on_publication() -> None:
    """The transaction that publishes is sent without the fence."""
    original = FencedWriter.commit_nested

    async def commit_nested(self: FencedWriter, compares: Sequence[Compare], ops: Sequence[Op]) -> Committed:
        kept = self._fence
        if any(getattr(op, "key", "").endswith("/current") for op in ops):
            self._fence = ()  # type: ignore[assignment]
        try:
            return await original(self, compares, ops)
        finally:
            self._fence = kept

    patch(FencedWriter, "commit_nested", commit_nested)


def trust_from_receipt() -> None:
    """Trust counts from when the answer to a keepalive was received, not from when that was sent."""
    original = Leadership.confirm

    async def confirm(self: Leadership, sent_at: float) -> None:
        await original(self, boottime())

    patch(Leadership, "confirm", confirm)


def no_confirmation() -> None:
    """An acknowledged keepalive extends trust, whatever has become of the key."""

    async def confirm(self: Leadership, sent_at: float) -> None:
        self.trusted_until = max(self.trusted_until, sent_at + self.session.ttl_s - self.session.margin_s)
        emit(Events.TRUST_EXTENDED, term=self.term.token, left_s=0.0, trusted_until=self.trusted_until)

    patch(Leadership, "confirm", confirm)


def no_look_before_a_win() -> None:
    """Once something has happened to those before it, a candidate takes itself for the winner."""
    original = campaign.Campaign._after_a_change

    async def after_a_change(
        self: campaign.Campaign, before: list[KeyValue], term: Term, revision: int
    ) -> campaign.Claim:
        claim = await original(self, before, term, revision)
        self._key_revision = claim.revision
        return replace(claim, won=True)

    patch(campaign.Campaign, "_after_a_change", after_a_change)


def no_hold() -> None:
    """A new term goes on with every job at once."""

    async def hold(office: Office, run: Run) -> None:
        return

    patch(dispatch, "hold", hold)


def no_reaping() -> None:
    """The guard lets the worker live, whatever the deadline."""
    source = Path(guard.__file__).read_text()
    for line in (
        "if self._kill_at is None and self.deadline is not None and now >= self.deadline - self.grace_s:",
        "limits = [limit for limit in (self._kill_at, self.deadline) if limit is not None]",
    ):
        assert line in source, f"the guard has no such line any more: {line}"
    source = source.replace("and now >= self.deadline - self.grace_s:", "and False:")
    source = source.replace("for limit in (self._kill_at, self.deadline)", "for limit in (self._kill_at,)")
    careless = Path(tempfile.mkdtemp(dir=Path.cwd()))
    (careless / "guard.py").write_text(source)
    shutil.copy(str(process_tree.__file__), careless)
    start = shutil.copy(str(start_guard.__file__), careless)
    patch(guarded, "start_guard", SimpleNamespace(__file__=start))


def fires_vanish() -> None:
    """Of the first three fires that are due, one is neither admitted nor refused; the watermark passes it."""
    original = plans.plan
    due = 0

    def plan(*arguments: Any, **options: Any) -> plans.Plan:
        nonlocal due
        decision = original(*arguments, **options)
        due += decision.admit is not None
        return replace(decision, admit=None) if due == 2 and decision.admit is not None else decision

    patch(admission, "plan", plan)


def leases_stay() -> None:
    """Whoever goes leaves its key and its lease behind."""

    async def resign(self: Election, office: Leadership, reason: str = "resigned") -> None:
        office.end(reason)

    async def close(self: Session) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    patch(Election, "resign", resign)
    patch(Session, "close", close)


def takeover_on_suspicion() -> None:
    """Who has not been heard of for a moment is taken for dead."""

    async def witness(predecessor: KeyValue) -> str:
        await asyncio.sleep(SUSPICION_AFTER_S)
        return f"nothing was heard of it for {SUSPICION_AFTER_S} s"

    patch(leading, "witness", witness)


def another_digest() -> None:
    """A pointer names the bytes of the version before."""
    original = publication._switch

    async def switch(office: Office, run: Stored[Run], staged: Staged, result: Any) -> Run:
        before = office.feed.view.pointer(run.record.job)
        if before is not None:
            former = {"digest": before.record.digest, "manifest_bytes": before.record.manifest_bytes}
            staged = staged.model_copy(update=former)
        return await original(office, run, staged, result)

    patch(publication, "_switch", switch)


def published_twice() -> None:
    """A run's result is published, and published again under the next number."""
    original = publication._switch

    async def switch(office: Office, run: Stored[Run], staged: Staged, result: Any) -> Run:
        done = await original(office, run, staged, result)
        found = await office.leadership.etcd.get(run.key)
        assert found is not None
        return await original(office, replace(run, mod_revision=found.mod_revision), staged, result) or done

    patch(publication, "_switch", switch)


def views_go_back() -> None:
    """A follower that has the second version goes back to the first, once."""
    original = Follower._wanted
    going_back: dict[str, bool] = {}

    def wanted(self: Follower, view: View) -> Pointer | None:
        first = min(
            (stored.record for stored in view.versions(self._job)),
            key=lambda each: each.version,
            default=None,
        )
        active = self._active
        if active is not None and active.sequence >= 2:
            going_back.setdefault(self._job, True)
        if active is None or first is None or not going_back.get(self._job):
            return original(self, view)
        if active.version == first.version:
            going_back[self._job] = False
            return original(self, view)
        return Pointer(**first.model_dump())

    def no_order(*arguments: Any, **options: Any) -> None:
        return

    patch(activation, "_check_order", no_order)
    patch(Follower, "_wanted", wanted)


def never_again() -> None:
    """A replica that was in office once does not stand for election any more."""
    original = leading.Leading._campaign_and_lead
    stood = False

    async def campaign_and_lead(self: leading.Leading, session: Session, history: Any) -> None:
        nonlocal stood
        if stood:
            await session.wait_lost()
        stood = True
        await original(self, session, history)

    patch(leading.Leading, "_campaign_and_lead", campaign_and_lead)


def stands_still() -> None:
    """The third run of a job is never carried out; the term goes on, and so does all else."""
    original = dispatch.Dispatch.carry_out
    times: Counter[str] = Counter()

    async def carry_out(self: dispatch.Dispatch, run: Stored[Run]) -> Run:
        times[run.record.job] += 1
        if times[run.record.job] == 3:
            await asyncio.Event().wait()
        return await original(self, run)

    patch(dispatch.Dispatch, "carry_out", carry_out)


def no_fires() -> None:
    """The alarm rings in vain: what is due is not looked at."""

    async def account_for_fires(self: jobloop.JobLoop) -> None:
        await asyncio.Event().wait()

    patch(jobloop.JobLoop, "_account_for_fires", account_for_fires)


def never_acts() -> None:
    """Who has won waits for ever for what it takes for news."""

    async def see_nothing(feed: Any, leadership: Leadership, stepdown: Any) -> None:
        await leadership.wait_ended()
        leadership.check()

    patch(leading, "see_all_before", see_nothing)


DEFECTS: Mapping[str, Callable[[], None]] = {
    "half-a-fence": half_a_fence,
    "no-fence-on-publication": no_fence_on_publication,
    "trust-from-receipt": trust_from_receipt,
    "no-confirmation": no_confirmation,
    "no-look-before-a-win": no_look_before_a_win,
    "no-hold": no_hold,
    "no-reaping": no_reaping,
    "fires-vanish": fires_vanish,
    "leases-stay": leases_stay,
    "takeover-on-suspicion": takeover_on_suspicion,
    "another-digest": another_digest,
    "published-twice": published_twice,
    "views-go-back": views_go_back,
    "never-again": never_again,
    "stands-still": stands_still,
    "no-fires": no_fires,
    "never-acts": never_acts,
}
