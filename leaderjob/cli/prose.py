"""Sentences for people: one line each in a pipe, wrapped between words on a terminal."""

import shutil
import sys
import textwrap
from typing import TextIO

import click

_CONTINUED = "  "


def print_prose(text: str, *, err: bool = False, colour: str | None = None) -> None:
    """Print a text, each line of it; on a terminal they wrap between words, so that ids and addresses stay whole."""
    lines = [printable(line) for line in text.split("\n")]
    if on_terminal(sys.stderr if err else sys.stdout):
        width = shutil.get_terminal_size().columns
        lines = [part for line in lines for part in wrap(line, width, continued=_CONTINUED)]
    click.secho("\n".join(lines), err=err, fg=colour)


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads ``stream``. It is None where the program was started with the stream closed."""
    return stream is not None and stream.isatty()


def wrap(prose: str, width: int, continued: str = "") -> list[str]:
    """``prose`` in lines of at most ``width`` characters; a longer word stays whole on a line of its own."""
    return textwrap.wrap(
        prose, width, subsequent_indent=continued, break_long_words=False, break_on_hyphens=False
    ) or [""]


def printable(text: str) -> str:
    """``text`` on one line, with control characters made visible: what others wrote must not drive a terminal."""
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    return " " if one.isspace() else one.encode("unicode_escape").decode("ascii")
