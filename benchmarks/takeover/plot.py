"""The findings as a plot: a line for each row, on a logarithmic axis of time. Colours that show on white and on black."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from takeover.results import Findings, Row

_INK = "#768390"
_OURS, _OTHERS, _LIMIT = "#2f81f7", "#c2701a", "#2da44e"
_WIDTH, _LABELS, _FIGURES = 960, 330, 196
_MARGIN, _TTL_WIDTH = 16, 58
_ROW, _HEAD, _FOOT = 25, 72, 54
_DECADES = ((1, "1 ms"), (10, "10 ms"), (100, "0.1 s"), (1_000, "1 s"), (10_000, "10 s"), (100_000, "100 s"))
_LEAST_MS, _MOST_MS = _DECADES[0][0], _DECADES[-1][0]
_TITLE = "How long nobody leads when a leader goes"
_FONT = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows below a heading."""

    heading: str
    rows: Sequence[Row]
    colour: str

    def name(self, row: Row) -> str:
        if row.contestant != "leaderjob":
            return row.contestant
        return row.fault if row.until == "acting leader" else f"{row.fault}: {row.until}"


def draw(found: Findings) -> str:
    """An SVG document. Rows without values are left out."""
    lines: list[str] = []
    y = _HEAD
    for group in _groups(found):
        y += _ROW
        lines.append(_text(_MARGIN, y + 4, group.heading, weight=600, fill=group.colour))
        for row in group.rows:
            y += _ROW
            lines += _row(row, group, y)
    bottom = y + _ROW // 2 + 4
    height = bottom + _FOOT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" font-family="{_FONT}" font-size="13" fill="{_INK}">',
        f"<title>{_TITLE}</title>",
        _text(_MARGIN, 26, _TITLE, size=17, weight=600),
        *_key(),
        *_axis(bottom),
        *_limit(found, bottom),
        *lines,
        _text(_MARGIN, height - 12, found.machine, size=11),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def position(value_ms: float) -> float:
    """Where on the axis, from the left edge; what is beyond its ends is shown there."""
    share = math.log10(min(max(value_ms, _LEAST_MS), _MOST_MS) / _LEAST_MS) / math.log10(_MOST_MS / _LEAST_MS)
    return round(_LABELS + share * (_WIDTH - _LABELS - _FIGURES), 1)


def figures(row: Row) -> str:
    """p50, p99 and the maximum; the unit is said once where it is the same."""
    told = [_short(value_ms) for value_ms in (row.p50_ms, row.p99_ms, row.max_ms)]
    units = {unit for _, unit in told}
    if len(units) == 1:
        return " / ".join(number for number, _ in told) + f" {units.pop()}"
    return " / ".join(f"{number} {unit}" for number, unit in told)


def _groups(found: Findings) -> Iterator[_Group]:
    rows = [row for row in found.rows if row.values_ms]
    ours = [row for row in rows if row.contestant == "leaderjob"]
    others = [row for row in rows if row.contestant != "leaderjob"]
    if ours:
        yield _Group("leaderjob", ours, _OURS)
    if others:
        yield _Group("others, when their leader is killed", others, _OTHERS)


def _row(row: Row, group: _Group, y: int) -> Iterator[str]:
    colour = group.colour
    yield _text(_LABELS - 14 - _TTL_WIDTH, y + 4, group.name(row), anchor="end")
    if row.ttl_s is not None:
        yield _text(_LABELS - 14, y + 4, f"TTL {row.ttl_s:g} s", anchor="end", size=11)
    p50, p99, most = position(row.p50_ms), position(row.p99_ms), position(row.max_ms)
    yield _line((p50, y), (most, y), colour, 2)
    yield _line((p99, y - 6), (p99, y + 6), colour, 2.5)
    yield f'<circle cx="{most}" cy="{y}" r="2.5" fill="{colour}"/>'
    yield f'<circle cx="{p50}" cy="{y}" r="5" fill="{colour}"/>'
    yield _text(_WIDTH - _MARGIN, y + 4, f"{figures(row)} ({len(row.values_ms)})", anchor="end", size=12)


def _axis(bottom: int) -> Iterator[str]:
    for value_ms, label in _DECADES:
        x = position(value_ms)
        yield _line((x, _HEAD), (x, bottom), _INK, 1, 'stroke-opacity="0.35"')
        yield _text(x, bottom + 16, label, anchor="middle", size=12)


def _limit(found: Findings, bottom: int) -> Iterator[str]:
    if found.limit_ms is None:
        return
    x = position(found.limit_ms)
    yield _line((x, _HEAD), (x, bottom), _LIMIT, 1.5, 'stroke-dasharray="4 3"')
    label = f"the limit after a crash: {' '.join(_short(found.limit_ms))}"
    yield _text(x, _HEAD - 7, label, size=12, anchor="middle", fill=_LIMIT)


def _key() -> Iterator[str]:
    """What the marks and the figures at the right mean."""
    x, y = _WIDTH - _MARGIN - 132, 26
    yield f'<circle cx="{x}" cy="{y - 4}" r="5" fill="{_INK}"/>'
    yield _text(x + 10, y, "p50", size=12)
    yield _line((x + 48, y - 10), (x + 48, y + 2), _INK, 2.5)
    yield _text(x + 55, y, "p99", size=12)
    yield f'<circle cx="{x + 96}" cy="{y - 4}" r="2.5" fill="{_INK}"/>'
    yield _text(x + 104, y, "max", size=12)
    yield _text(_WIDTH - _MARGIN, _HEAD - 7, "p50 / p99 / max (trials)", anchor="end", size=12)


def _short(value_ms: float) -> tuple[str, str]:
    """The number and its unit."""
    if value_ms >= 995:
        return (f"{value_ms / 1000:.1f}" if value_ms < 9_950 else f"{value_ms / 1000:.0f}"), "s"
    return (f"{value_ms:.0f}" if value_ms >= 9.95 else f"{value_ms:.1f}"), "ms"


def _line(
    begin: tuple[float, float], end: tuple[float, float], colour: str, width: float, more: str = ""
) -> str:
    ends = f'x1="{begin[0]}" y1="{begin[1]}" x2="{end[0]}" y2="{end[1]}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}" {more}/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: int = 400,
    fill: str = _INK,
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
