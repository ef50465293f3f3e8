"""What operators ask for: command keys, consumed in the order in which they were made."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from leaderjob.clock import utcnow
from leaderjob.engine.jobloop import JobLoop, refuse
from leaderjob.engine.office import Office
from leaderjob.etcd import ValueTooLarge
from leaderjob.model.command import Command
from leaderjob.records.fenced import Conflict
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
        view = await office.feed.until(lambda view: any(waiting(view)))
        taken &= {(stored.key, stored.mod_revision) for stored in view.commands}
        for stored in list(waiting(view)):
            # The feed lags behind our own writes: what was consumed may still look as if it waited.
            taken.add((stored.key, stored.mod_revision))
            try:
                await _take(office, loops, stored)
            except Conflict:
                continue  # consumed or withdrawn meanwhile; the feed will tell


async def _take(office: Office, loops: Mapping[str, JobLoop], stored: Stored[Command]) -> None:
    command = stored.record
    if command.expires < utcnow():
        await refuse(office, stored, "it expired before a leader could take it")
    elif command.job not in loops:
        known = ", ".join(sorted(loops)) or "none"
        await refuse(office, stored, f"no job is called {command.job!r} here; known are {known}")
    else:
        try:
            await loops[command.job].trigger(stored)
        except ValueTooLarge as error:
            # Answered without them: with them, the answer could be too large as well.
            bare = replace(stored, record=command.model_copy(update={"params": {}}))
            await refuse(office, bare, f"its parameters are too large: {error}")
