"""How data is printed: JSON for scripts, tables for people, no colour where nobody looks."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leaderjob.durations import format_duration


def print_json(value: Any) -> None:
    """One JSON value on one line, at once."""
    click.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # not as strings: rich would take [word] and :word: for its own
    # Piped, a table must not be cut at some assumed width.
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=500, soft_wrap=True)
    # Not printed by rich, which ends the program where nobody reads any more.
    with console.capture() as rendered:
        console.print(table)
    click.echo(rendered.get(), nl=False)


def format_size(size_bytes: int) -> str:
    """A size for people: ``24 KiB``, ``1.6 GiB``."""
    if size_bytes < 1024**2:
        return f"{size_bytes / 1024:.0f} KiB"
    if size_bytes < 1024**3:
        return f"{size_bytes / 1024**2:.0f} MiB"
    return f"{size_bytes / 1024**3:.1f} GiB"


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
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from error
    if not isinstance(value, dict):
        raise click.BadParameter('a JSON object is expected, as in \'{"q": "open file"}\'', param_hint=option)
    return value
