"""Names and identities: what may be a name, and how ids are made."""

import re
import secrets
from datetime import UTC, datetime

from leaderjob.errors import InvalidName

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,119}")


def valid_name(name: str) -> bool:
    """Whether ``name`` may be part of a key: no ``/``, so that no prefix nests in another."""
    return _NAME.fullmatch(name) is not None


def check_name(kind: str, name: str) -> str:
    """``name`` itself, if it may be part of a key. :raises InvalidName: it may not."""
    if not valid_name(name):
        raise InvalidName(kind, name)
    return name


def new_incarnation() -> str:
    """The identity of one process, never used again: 64 random bits in hex."""
    return secrets.token_hex(8)


def fire_id(fire_time: datetime) -> str:
    """The id of the run of a scheduled fire: its instant, so that it can exist only once."""
    return fire_time.astimezone(UTC).strftime("%Y%m%dt%H%M%Sz")


def new_run_id(now: datetime) -> str:
    """The id of a command and of the run that it triggers; sorts by time."""
    return f"{fire_id(now)}-{secrets.token_hex(3)}"
