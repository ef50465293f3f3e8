"""The report as text: for a terminal, and as Markdown for a page."""

from collections.abc import Iterator

from contest.cells import markdown_table, text_table
from contest.contestants import OURS
from contest.figures import Ratio

from tournament.report import PUTS_TARGET, ROUND_TRIPS_TARGET, Report

_HEADINGS = ("", "", "p50 ms", "p99 ms", "per s", "times ours")
_TEXT_COLUMNS = (0, 1, 5)


def render(report: Report) -> str:
    """For a terminal."""
    table = text_table(_HEADINGS, list(_rows(report)), text_columns=_TEXT_COLUMNS) if report.scores else []
    return "\n".join([_machine(report), "", *table, "", *_notes(report)])


def markdown(report: Report) -> str:
    """For a page."""
    table = (
        markdown_table(_HEADINGS, list(_rows(report)), text_columns=_TEXT_COLUMNS) if report.scores else []
    )
    return "\n".join([_machine(report) + ".", "", *table, "", *(f"- {note}" for note in _notes(report))])


def _machine(report: Report) -> str:
    machine = report.machine
    return (
        f"etcd {machine.etcd}, no server waits for its disk, Python {machine.python}, {machine.cores} cores "
        f"(load {machine.load:.1f}), {report.rounds} rounds"
    )


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    for event in report.events:
        for measure in event.measures:
            row = event.row(measure)
            shown = row
            for entrant in report.entrants:
                if event.kind in entrant.lacks and entrant.is_needed:
                    continue
                yield (shown, entrant.name, *_figures(report, row, entrant.name))
                shown = ""


def _figures(report: Report, row: str, name: str) -> tuple[str, str, str, str]:
    score = report.scores[row].get(name)
    if score is None:
        return ("-", "", "", "")
    if score.failure is not None:
        return ("", "", "", "failed")
    per_s = "" if score.judged_by_latency else f"{score.per_s:,.0f}"
    of_ours = "1" if name == OURS else _spread(report.of_ours(row, name))
    return (_milliseconds(score.latency_s(50)), _milliseconds(score.latency_s(99)), per_s, of_ours)


def _notes(report: Report) -> Iterator[str]:
    for entrant in report.entrants:
        yield f"{entrant.name}: {entrant.contestant.what}"
    for name, reason in report.absent.items():
        yield f"left out: {name}: {reason}"
    for entrant in report.entrants:
        reasons = {} if entrant.is_needed else dict(entrant.lacks)
        for reason in dict.fromkeys(reasons.values()):
            yield f"no {entrant.name} in some rows: {reason}"
    for row, scores in report.scores.items():
        for name, score in scores.items():
            if score.failure is not None:
                yield f"failed: {name}, {row}: {score.failure}"
    of_two_puts = report.of_two_puts
    if of_two_puts is not None:
        yield f"a lock that nobody disputes: {_spread(of_two_puts)} times two bare puts; target {PUTS_TARGET:g}"
    handover = report.handover
    if handover is not None:
        in_all = ", ".join(f"{count:g} {method}" for method, count in handover.in_all.items())
        yield (
            f"one handover of a lock, {handover.waiting} waiting: {handover.waited_for:g} round trips waited for; target "
            f"{ROUND_TRIPS_TARGET} (as long as {handover.round_trips:.1f} gets: {handover.took_s * 1000:.1f} ms; begun on the "
            f"server in all: {in_all})"
        )
    if not report.can_tell:
        seems = "what they seem to say:" if report.problems else "no target seems to be missed"
        yield f"{report.rounds} rounds are too few for a verdict; {seems}"
    for problem in report.problems:
        yield f"not as it should be: {problem}"


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:,.2f}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"


def _spread(ratio: Ratio | None) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio is not None else ""
