"""What becomes of a command: its outcome and its consumption are one write."""

from leaderjob.clock import utcnow
from leaderjob.engine.office import Office
from leaderjob.etcd import Put, modified_at
from leaderjob.model.command import Command
from leaderjob.records.stored import Stored
from leaderjob.telemetry.events import Events, emit


async def refuse(office: Office, command: Stored[Command], reason: str) -> None:
    """Consume a command without an effect, saying why."""
    await consume(office, command, accepted=False, outcome=reason)
    asked = command.record
    emit(
        Events.COMMAND_REFUSED,
        command=asked.id,
        kind=asked.kind,
        job=asked.job,
        by=asked.by,
        reason=reason,
        term=office.token,
    )


async def consume(office: Office, command: Stored[Command], *, accepted: bool, outcome: str) -> None:
    """:raises Conflict: it was changed or withdrawn meanwhile; nothing was written."""
    done = command.record.model_copy(update={"done": utcnow(), "accepted": accepted, "outcome": outcome})
    await office.writer.commit(
        [modified_at(command.key, command.mod_revision)], [Put(command.key, done.to_bytes())]
    )
