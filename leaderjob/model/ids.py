"""Identities: how ids are made. What may be a name is said in ``leaderjob.names``."""

import secrets
from datetime import UTC, datetime

from leaderjob.names import check_name, valid_name

__all__ = ["check_name", "fire_id", "new_incarnation", "new_run_id", "valid_name"]


def new_incarnation() -> str:
    """The identity of one process, never used again: 64 random bits in hex."""
    return secrets.token_hex(8)


def fire_id(fire_time: datetime) -> str:
    """The id of the run of a scheduled fire: its instant, so that it can exist only once."""
    return fire_time.astimezone(UTC).strftime("%Y%m%dt%H%M%Sz")


def new_run_id(now: datetime) -> str:
    """The id of a command and of the run that it triggers; sorts by time."""
    return f"{fire_id(now)}-{secrets.token_hex(3)}"
