"""Rows of text as a table: for a terminal, and as Markdown."""

from collections.abc import Collection, Sequence

Cells = Sequence[str]


def text_table(headings: Cells, rows: Sequence[Cells], *, text_columns: Collection[int] = (0,)) -> list[str]:
    """Its lines. Words to the left, numbers to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return [
        "  ".join(
            cell.ljust(width) if column in text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def markdown_table(
    headings: Cells, rows: Sequence[Cells], *, text_columns: Collection[int] = (0,)
) -> list[str]:
    """Its lines."""
    rule = ["---" if column in text_columns else "---:" for column in range(len(headings))]
    return ["| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows)]
