"""Tables on terminals of every width: what somebody might copy stays in one piece."""

import re

import click
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from leaderjob.cli.prose import printable, wrap
from leaderjob.cli.table import Cell, Column, layout

COLUMNS = (
    Column("JOB"),
    Column("RUN"),
    Column("CREATED", optional=1),
    Column("TOKEN", optional=2),
    Column("OUTCOME"),
    Column("REASON", prose=True),
)
ROW = [
    "search_index",
    "20261130t210423z-012884",
    "3m20s ago",
    "4711",
    "failed",
    "the corpus at /srv/docs is not readable",
]


def lines(row: list[str] = ROW, *, width: int | None = None, colours: bool = False) -> list[str]:
    return layout(COLUMNS, [[Cell(text) for text in row]], width=width, colours=colours)


def test_table_in_a_pipe_has_every_column_on_one_line() -> None:
    head, row = lines()
    assert head.split() == [column.title for column in COLUMNS]
    assert all(text in row for text in ROW)


def test_prose_wraps_beside_its_row_while_there_is_room() -> None:
    _, first, *others = lines(width=100)
    assert first.endswith("failed   the corpus at /srv/docs is not")
    assert [other.strip() for other in others] == ["readable"]
    assert others[0].index("readable") == first.index("the corpus")


def test_prose_moves_below_its_row_where_there_is_none() -> None:
    assert lines(width=80)[2:] == ["    the corpus at /srv/docs is not readable"]


def test_least_important_columns_are_left_out_first() -> None:
    assert lines(width=60)[0].split() == ["JOB", "RUN", "CREATED", "OUTCOME"]
    assert lines(width=50)[0].split() == ["JOB", "RUN", "OUTCOME"]


@given(
    st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40), min_size=5, max_size=5),
    st.integers(1, 200),
)
def test_no_name_is_broken_at_any_width(names: list[str], width: int) -> None:
    shown = lines([*names, "why it failed"], width=width)
    kept = [index for index, column in enumerate(COLUMNS[:5]) if column.title in shown[0]]
    assert {0, 1, 4} <= set(kept)
    assert all(names[index] in shown[1] for index in kept)


@given(st.text(), st.integers(30, 200))
def test_prose_loses_no_word(text: str, width: int) -> None:
    assert " ".join(wrap(printable(text), width)).split() == printable(text).split()


@given(st.text())
def test_foreign_text_cannot_drive_a_terminal(text: str) -> None:
    assert printable(text).isprintable()


def test_escape_sequences_and_surrogates_are_made_visible() -> None:
    assert printable("a\x1b[2Jb\u202ec\udc80\nd") == "a\\x1b[2Jb\\u202ec\\udc80 d"


def test_failed_run_is_red_and_its_column_stays_aligned() -> None:
    rows = [
        [Cell("r1"), Cell("failed", "red"), Cell("why")],
        [Cell("r2"), Cell("succeeded", "green"), Cell("")],
    ]
    coloured = layout((Column("RUN"), Column("OUTCOME"), Column("REASON")), rows, width=None, colours=True)
    assert click.style("failed", fg="red") in coloured[1]
    plain = [re.sub(r"\x1b\[\d*m", "", line) for line in coloured]
    assert plain[1].index("why") == plain[0].index("REASON")


def test_wide_characters_keep_columns_aligned() -> None:
    shown = lines(["索引", *ROW[1:]])
    assert cell_len(shown[1][: shown[1].index(ROW[1])]) == cell_len(shown[0][: shown[0].index("RUN")])
