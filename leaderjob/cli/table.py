"""Tables for people. A name, an id or an address is never broken over lines, however narrow the terminal is.

A table that does not fit is narrowed in this order: its prose column wraps between words, or moves to a line of
its own below each row; optional columns are left out, the least important first; whatever remains runs past the
edge, where the terminal itself breaks the line and a copy of it is still whole.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click
from rich.cells import cell_len

from leaderjob.cli.prose import on_terminal, printable, wrap

_GAP = "  "
_PROSE_MIN_CHARS = 30
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :param prose: sentences, which may be wrapped. At most one column, and the last.
    :param optional: left out where the terminal is too narrow; the highest number goes first, 0 stays.
    """

    title: str
    prose: bool = False
    optional: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of one cell, and its colour on a terminal."""

    text: str
    colour: str | None = None


def print_table(columns: Sequence[Column | str], rows: Sequence[Sequence[Cell | str]]) -> None:
    """Print ``rows`` below the titles of ``columns``: as wide as necessary into a pipe, fitted to a terminal."""
    heads = [column if isinstance(column, Column) else Column(column) for column in columns]
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    width = shutil.get_terminal_size().columns if on_terminal(sys.stdout) else None
    for line in layout(heads, cells, width=width, colours=_colours_wanted()):
        click.echo(line)


def layout(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width: int | None, colours: bool
) -> list[str]:
    """The lines of the table. :param width: of the terminal, in characters; None: unlimited."""
    shown = [[Cell(printable(cell.text), cell.colour) for cell in row] for row in rows]
    widths = [
        max([cell_len(column.title), *(cell_len(row[index].text) for row in shown)])
        for index, column in enumerate(columns)
    ]
    kept, prose = list(range(len(columns))), None
    if width is not None and _total(widths, kept) > width:
        if columns[-1].prose:
            prose = kept.pop()
        for index in sorted(kept, key=lambda index: -columns[index].optional):
            if columns[index].optional and _total(widths, kept) > width:
                kept.remove(index)
    lines = [
        _line([Cell(columns[index].title) for index in kept], [widths[index] for index in kept], colours)
    ]
    if colours:
        lines[0] = click.style(lines[0], bold=True)
    beside = prose is not None and width is not None and width - _total(widths, kept) - len(_GAP)
    if prose is not None and beside >= _PROSE_MIN_CHARS:
        lines[0] += (
            _GAP + click.style(columns[prose].title, bold=True) if colours else _GAP + columns[prose].title
        )
    for row in shown:
        line = _line([row[index] for index in kept], [widths[index] for index in kept], colours)
        if prose is None or width is None:
            lines.append(line)
        else:
            lines += _with_prose(
                line, row[prose].text, used=_total(widths, kept), beside=int(beside), width=width
            )
    return [line.rstrip() for line in lines]


def _with_prose(line: str, prose: str, *, used: int, beside: int, width: int) -> list[str]:
    """The row's line, and its prose beside it, where there is room for ``beside`` characters, or below it."""
    if not prose:
        return [line]
    if beside >= _PROSE_MIN_CHARS:
        first, *others = wrap(prose, beside)
        return [line + _GAP + first, *(" " * used + _GAP + other for other in others)]
    return [
        line,
        *(_INDENT + other for other in wrap(prose, max(_PROSE_MIN_CHARS, width - len(_INDENT)))),
    ]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[index] for index in kept) + len(_GAP) * (len(kept) - 1)


def _line(cells: Sequence[Cell], widths: Sequence[int], colours: bool) -> str:
    padded = []
    for cell, width in zip(cells, widths, strict=True):
        # Padding counts cells of the terminal, and not the characters of the escape sequence.
        text = click.style(cell.text, fg=cell.colour) if colours and cell.colour else cell.text
        padded.append(text + " " * (width - cell_len(cell.text)))
    return _GAP.join(padded)


def _colours_wanted() -> bool:
    return on_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
