"""Spans of boot time in seconds, and what is left of them."""

from collections.abc import Iterable

from tests.faults.history.past import History, Intervention

Span = tuple[float, float]


def without(spans: Iterable[Span], cut: Iterable[Span]) -> list[Span]:
    """The parts of ``spans`` that none of ``cut`` covers."""
    left = list(spans)
    for since, until in cut:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, since)), (max(first, until), last))
            if part[0] < part[1]
        ]
    return left


def within(spans: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """The parts of ``spans`` that ``other`` covers too. Neither overlaps itself."""
    parts = [(max(one[0], two[0]), min(one[1], two[1])) for one in spans for two in other]
    return [part for part in parts if part[0] < part[1]]


def total_s(spans: Iterable[Span]) -> float:
    return sum(until - since for since, until in spans)


def of_interventions(history: History, *kinds: Intervention, about: str | None = None) -> list[Span]:
    """When interventions of these kinds went on. :param about: only those on whom this is about, or on all."""
    return [
        (each.since, float("inf") if each.until is None else each.until)
        for each in history.interventions
        if each.kind in kinds and (about is None or each.about in ("", about))
    ]
