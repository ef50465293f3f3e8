"""What an operator asks the leader for, through a key."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from leaderjob.model.record import Record
from leaderjob.names import Name


class CommandKind(StrEnum):
    TRIGGER = "trigger"
    RESIGN = "resign"
    TRANSFER = "transfer"
    FORGET = "forget"


class Command(Record):
    """``commands/<id>``: consumed in the order of create revisions. A done one stays for an hour.

    The id is the idempotency key: a triggered run has the command's id. ``resign`` and ``transfer`` mean one term,
    that of ``token``, and no other. With ``force``, office passes to a replica that lacks more jobs than another.
    """

    id: Name
    kind: CommandKind
    job: Name | None = None
    token: int | None = None
    to: Name | None = None
    force: bool = False
    created: datetime
    expires: datetime
    params: dict[str, Any] = {}
    by: str = ""
    done: datetime | None = None
    accepted: bool | None = None
    outcome: str | None = None
