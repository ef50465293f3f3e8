"""What operators ask for: command keys, consumed in the order in which they were made."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from leaderjob.clock import utcnow
from leaderjob.cluster.rank import why_worse
from leaderjob.engine.answers import consume, refuse
from leaderjob.engine.forgetting import forget_job
from leaderjob.engine.jobloop import JobLoop
from leaderjob.engine.office import Office
from leaderjob.engine.transfer import make_next, why_not
from leaderjob.etcd import AmbiguousWrite, ValueTooLarge
from leaderjob.model.command import Command, CommandKind
from leaderjob.records.fenced import Conflict
from leaderjob.records.keys import Kind
from leaderjob.records.stored import Stored
from leaderjob.records.view import View


async def take_commands(office: Office, loops: Mapping[str, JobLoop]) -> None:
    """Until the term ends. :raises NotLeader: it has."""
    taken: set[tuple[str, int]] = set()

    def waiting(view: View) -> Iterator[Stored[Command]]:
        for stored in view.commands:
            if stored.record.done is None and (stored.key, stored.mod_revision) not in taken:
                yield stored

    while True:
        view = await office.feed.until(lambda view: not office.stepdown.asked and any(waiting(view)))
        taken &= {(stored.key, stored.mod_revision) for stored in view.commands}
        for stored in list(waiting(view)):
            # The feed lags behind our own writes: what was consumed may still look as if it waited.
            taken.add((stored.key, stored.mod_revision))
            with suppress(Conflict):  # consumed or withdrawn meanwhile; the feed will tell
                await _take(office, loops, stored)
            if office.stepdown.asked:
                break  # the others are for the next term


async def _take(office: Office, loops: Mapping[str, JobLoop], stored: Stored[Command]) -> None:
    command = stored.record
    if command.expires < utcnow():
        await refuse(office, stored, "it expired before a leader could take it")
    elif command.kind is CommandKind.FORGET:
        await forget_job(office, loops.keys(), stored)
    elif command.kind is not CommandKind.TRIGGER:
        await _give_up_office(office, stored)
    elif (loop := loops.get(command.job or "")) is None:
        await refuse(office, stored, _unknown(office, loops, command.job or ""))
    else:
        try:
            await loop.trigger(stored)
        except ValueTooLarge as error:
            # Answered without them: with them, the answer could be too large as well.
            bare = replace(stored, record=command.model_copy(update={"params": {}}))
            await refuse(office, bare, f"its parameters are too large: {error}")


def _unknown(office: Office, loops: Mapping[str, JobLoop], job: str) -> str:
    if office.feed.view.is_in_force(job):
        return (
            f"the leader, {office.replica}, does not have job {job!r}: 'leaderjob status' shows which replica lacks what; "
            "start one that has it, and it gets office"
        )
    if office.feed.view.get(Kind.SPEC, job) is not None:
        return f"job {job!r} was removed: no replica has it. Start one that has it, and it is in force again"
    return f"no job is called {job!r} here; known are {', '.join(sorted(loops)) or 'none'}"


async def _give_up_office(office: Office, stored: Stored[Command]) -> None:
    """Resign, or transfer office: the command is consumed when the way is clear, then the term steps down."""
    command = stored.record
    if command.token != office.token:
        await refuse(office, stored, f"it means term {command.token}, and this is term {office.token}")
        return
    async with office.stepdown.deciding:
        reason = "asked to resign"
        if command.kind is CommandKind.TRANSFER:
            to = command.to or ""
            obstacle = why_not(office.feed.view, office.replica, to)
            if obstacle is None and not command.force:
                obstacle = why_worse(office.feed.view, to)
            obstacle = obstacle or await make_next(office, to)
            if obstacle is not None:
                await refuse(office, stored, obstacle)
                return
            reason = f"asked to hand office over to {to}"
        reason = f"{reason} by {command.by or 'somebody'}"
        try:
            await consume(office, stored, accepted=True, outcome=f"term {office.token} steps down")
        except AmbiguousWrite:
            office.stepdown.ask(reason)  # whoever asked may have read that it does, and is not asked again
            raise
        office.stepdown.ask(reason)
