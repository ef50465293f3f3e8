"""What operators ask for: command keys, consumed in the order in which they were made."""

from collections.abc import Mapping

from leaderjob.clock import utcnow
from leaderjob.engine.jobloop import JobLoop, refuse
from leaderjob.engine.office import Office
from leaderjob.model.command import Command
from leaderjob.records.fenced import Conflict
from leaderjob.records.stored import Stored

_LOOK_AGAIN_S = 5.0


async def take_commands(office: Office, loops: Mapping[str, JobLoop]) -> None:
    """Until the term ends. :raises NotLeader: it has."""
    taken: set[tuple[str, int]] = set()
    while True:
        waiting = [stored for stored in office.feed.view.commands if stored.record.done is None]
        taken &= {(stored.key, stored.mod_revision) for stored in waiting}
        for stored in waiting:
            # The feed lags behind our own writes: what was consumed may still look as if it waited.
            if (stored.key, stored.mod_revision) in taken:
                continue
            taken.add((stored.key, stored.mod_revision))
            try:
                await _take(office, loops, stored)
            except Conflict:
                continue  # consumed or withdrawn meanwhile; the feed will tell
        await office.feed.changed(_LOOK_AGAIN_S)


async def _take(office: Office, loops: Mapping[str, JobLoop], stored: Stored[Command]) -> None:
    command = stored.record
    if command.expires < utcnow():
        await refuse(office, stored, "it expired before a leader could take it")
    elif command.job not in loops:
        known = ", ".join(sorted(loops)) or "none"
        await refuse(office, stored, f"no job is called {command.job!r} here; known are {known}")
    else:
        await loops[command.job].trigger(stored)
