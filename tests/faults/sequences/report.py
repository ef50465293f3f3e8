"""What is told of sequences: a line for each step, and a table of all of them."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.sequences.faults import Fault
from tests.faults.sequences.play import Played, Struck


def line(struck: Struck) -> str:
    """``  12.3 s  leader killed for 1.2 s: r1 -> r2 after 9 ms, all in line 1.5 s after healing``"""
    office = f"{struck.before} stays" if struck.acting_ms is None else f"{struck.before} -> {struck.after}"
    acting = "" if struck.acting_ms is None else f", acting after {struck.acting_ms:.0f} ms"
    return (
        f"{struck.at_s:7.1f} s  {struck.step.name} for {struck.step.lasts_s:.1f} s: {office}{acting}; "
        f"all in line {struck.orderly_s:.1f} s after healing"
    )


def table(among: Sequence[Fault], played: Sequence[Played], facts: Mapping[str, str]) -> str:
    """In Markdown. Each fault has a row, which counts it inside pairs too; what followed is told of it alone."""
    rows = [
        "| fault | times | of these with another | alone: term stayed | another acted after: median | longest |",
        "|---|---|---|---|---|---|",
    ]
    struck = [each for sequence in played for each in sequence.struck]
    for fault in among:
        rows += _row(fault.name, [each for each in struck if fault in each.step.faults], alone=True)
    rows += _row("two at once", [each for each in struck if len(each.step.faults) > 1], alone=False)
    faults = sum(len(each.step.faults) for each in struck)
    violations = [violation for sequence in played for violation in sequence.violations]
    told = [f"**{faults} faults, {len(violations)} violations.** " + _sentence(facts)]
    return "\n".join([*told, "", *rows, *(f"- {violation}" for violation in violations), ""])


def _row(name: str, struck: Sequence[Struck], *, alone: bool) -> list[str]:
    """:param alone: what followed where two struck at once says nothing of one of them."""
    if not struck:
        return []
    paired = [each for each in struck if len(each.step.faults) > 1]
    told = [each for each in struck if each not in paired] if alone else list(struck)
    times = [each.acting_ms for each in told if each.acting_ms is not None]
    median = _ms(statistics.median(times)) if times else "–"
    longest = _ms(max(times)) if times else "–"
    stayed = len(told) - len(times) if told else "–"
    return [f"| {name} | {len(struck)} | {len(paired)} | {stayed} | {median} | {longest} |"]


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def _sentence(facts: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in facts.items()) + "."


def write(path: Path, section: str, text: str) -> None:
    """Put ``text`` where the page has that section, or at its end."""
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    page = path.read_text() if path.exists() else ""
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")
