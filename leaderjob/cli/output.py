"""How values are printed: JSON for scripts, sizes and times for people."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from leaderjob.durations import format_duration
from leaderjob.json_text import InvalidJson, decode
from leaderjob.model.run import Outcome

_ARGUMENT_LIMIT_BYTES = 2 * 1024 * 1024


def print_json(value: Any) -> None:
    """One JSON value on one line, at once."""
    click.echo(json.dumps(value, ensure_ascii=False))


def format_size(size_bytes: int) -> str:
    """A size for people: ``24 KiB``, ``1.6 GiB``."""
    if size_bytes < 1024**2:
        return f"{size_bytes / 1024:.0f} KiB"
    if size_bytes < 1024**3:
        return f"{size_bytes / 1024**2:.0f} MiB"
    return f"{size_bytes / 1024**3:.1f} GiB"


def colour_of(outcome: str | None) -> str | None:
    """The colour of a run's outcome: red where work is missing, yellow where it was never begun."""
    match outcome:
        case None | Outcome.SUPERSEDED | Outcome.CANCELLED:
            return None
        case Outcome.SUCCEEDED:
            return "green"
        case Outcome.SKIPPED | Outcome.MISSED:
            return "yellow"
        case _:
            return "red"


def format_share(done: float, total: float) -> str:
    """How much of ``total`` is done, for people: ``31 %``; the bare count where the total is not known."""
    return f"{100 * done / total:.0f} %" if total > 0 else f"{done:,.0f}"


def ago(stamp: str | datetime | None) -> str:
    """How long ago, or in how long, an instant is; empty for None."""
    if stamp is None:
        return ""
    instant = stamp if isinstance(stamp, datetime) else datetime.fromisoformat(stamp)
    seconds = (datetime.now(UTC) - instant).total_seconds()
    return f"{format_duration(seconds)} ago" if seconds >= 0 else f"in {format_duration(-seconds)}"


def parse_object(option: str, text: str) -> dict[str, Any]:
    """A JSON object given on the command line. :raises click.BadParameter: it is none."""
    try:
        value = decode(text, _ARGUMENT_LIMIT_BYTES)
    except InvalidJson as error:
        raise click.BadParameter(str(error), param_hint=option) from error
    if not isinstance(value, dict):
        raise click.BadParameter('a JSON object is expected, as in \'{"q": "open file"}\'', param_hint=option)
    return value
