"""The findings as text: for a terminal, and as Markdown for a page."""

from collections.abc import Iterator

from contest.cells import markdown_table, text_table

from takeover.results import Findings, Row, Target

_HEADINGS = ("", "TTL s", "until", "trials", "p50 ms", "p99 ms", "max ms", "target ms")
_TEXT_COLUMNS = (0, 2, 7)


def render(found: Findings) -> str:
    """For a terminal."""
    lines = [found.machine, ""]
    lines += text_table(_HEADINGS, [_cells(row) for row in found.rows], text_columns=_TEXT_COLUMNS)
    lines += ["", *_limit(found), *_notes(found), *_absent(found), *_problems(found)]
    return "\n".join(lines).rstrip()


def markdown(found: Findings) -> str:
    """The same for a page, with a table for the rows and one for the limit."""
    lines = [found.machine + ".", ""]
    lines += markdown_table(_HEADINGS, [_cells(row) for row in found.rows], text_columns=_TEXT_COLUMNS)
    if found.steps:
        steps = [(step.what, _ms(step.p50_ms), _ms(step.p99_ms)) for step in found.steps]
        total = ("**the limit**: the sum of the medians", _ms(found.limit_ms), "")
        lines += [
            "",
            *markdown_table(("what a takeover cannot do without", "p50 ms", "p99 ms"), [*steps, total]),
        ]
    extra = [*_notes(found), *_absent(found), *_problems(found)]
    if extra:
        lines += ["", *(f"- {line}" for line in extra)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    measured = (_ms(row.p50_ms), _ms(row.p99_ms), _ms(row.max_ms)) if row.values_ms else ("-", "-", "-")
    ttl = f"{row.ttl_s:g}" if row.ttl_s is not None else ""
    return (
        f"{row.contestant}: {row.fault}",
        ttl,
        row.until,
        str(len(row.values_ms)),
        *measured,
        _target(row.target),
    )


def _target(target: Target) -> str:
    wanted = (("p50", target.p50_ms), ("p99", target.p99_ms), ("max", target.max_ms))
    return ", ".join(f"{name} {value:,.0f}" for name, value in wanted if value is not None)


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _limit(found: Findings) -> Iterator[str]:
    if not found.steps:
        return
    yield "what a takeover after a crash cannot do without, p50 and p99 in ms"
    for step in found.steps:
        yield f"  {step.what:<48} {step.p50_ms:>7.2f} {step.p99_ms:>7.2f}"
    yield f"  {'the limit: the sum of the medians':<48} {found.limit_ms:>7.2f}"
    yield ""


def _notes(found: Findings) -> Iterator[str]:
    for row in found.rows:
        if row.note:
            yield f"{row.contestant}, {row.fault}: {row.note}"


def _absent(found: Findings) -> Iterator[str]:
    for name, reason in found.absent.items():
        yield f"left out: {name}: {reason}"


def _problems(found: Findings) -> Iterator[str]:
    for problem in found.problems:
        yield f"not as it should be: {problem}"
