"""The report as text for people."""

from collections.abc import Iterator

from contest.contestants import LIMIT, OURS
from contest.figures import Ratio
from contest.report import TARGET, Report, Standing

_ROW = "{load:<18} {name:<13} {p50:>9} {p99:>9} {per_s:>9} {cpu:>8}   {ratio:<20} {p99_ratio:>5}"


def render(report: Report) -> str:
    """Who took part, a block per load, the elections, and what became of the targets."""
    return "\n".join([*_who(report), "", *_loads(report), "", *_elections(report), "", *_targets(report)])


def _who(report: Report) -> Iterator[str]:
    machine = report.machine
    yield (
        f"etcd {machine.etcd} without fsync, Python {machine.python}, {machine.cores} cores "
        f"(load {machine.load:.1f}), {report.rounds} rounds"
    )
    for contestant in report.contestants:
        yield f"  {contestant.name:<13} {contestant.what}"
    for name, reason in report.absent.items():
        yield f"  {name:<13} could not be installed: {reason}"


def _loads(report: Report) -> Iterator[str]:
    yield _ROW.format(
        load="",
        name="",
        p50="p50 ms",
        p99="p99 ms",
        per_s="per s",
        cpu="cpu us",
        ratio="of the limit",
        p99_ratio="p99",
    ).rstrip()
    for load, scores in report.scores.items():
        shown = load
        for name, score in scores.items():
            if score.failure is not None:
                yield f"{shown:<18} {name:<13} failed: {score.failure}"
            else:
                row = _ROW.format(
                    load=shown,
                    name=name,
                    p50=_milliseconds(score.latency_s(50)),
                    p99=_milliseconds(score.latency_s(99)),
                    per_s=f"{score.per_s:,.0f}",
                    cpu=f"{score.cpu_s * 1e6:,.0f}",
                    ratio=_spread(report.to_limit(load, name)) if name != LIMIT else "1",
                    p99_ratio=_median(report.p99_to_limit(load, name)) if name != LIMIT else "",
                )
                yield row.rstrip()
            shown = ""


def _elections(report: Report) -> Iterator[str]:
    yield f"{'':<32} {'waited for':>10} {'ms':>8} {'round trips':>12}   begun on the server, in all"
    for cost in report.elections:
        in_all = ", ".join(f"{count:g} {method}" for method, count in cost.in_all.items())
        yield (
            f"{cost.what:<32} {cost.waited_for:>10g} {cost.took_s * 1000:>8.2f} {cost.round_trips:>12.1f}   {in_all}"
        )


def _targets(report: Report) -> Iterator[str]:
    loads, over = len(report.scores), report.over_target()
    if not report.can_tell:
        yield f"{report.rounds} rounds are too few for a verdict; what they seem to say:"
    yield f"{OURS} within {TARGET:g} of the limit: {loads - len(over)} of {loads}" + _which(over)
    for peer in report.contestants:
        if not peer.is_peer:
            continue
        standings = {load: report.standing(load, peer.name) for load in report.scores}
        counts = [f"{standing} {list(standings.values()).count(standing)}" for standing in Standing]
        behind = [load for load, standing in standings.items() if standing is Standing.BEHIND]
        yield f"{OURS} beside {peer.name}: {', '.join(counts)}" + _which(behind)


def _which(loads: list[str]) -> str:
    return f" ({'; '.join(loads)})" if loads else ""


def _milliseconds(seconds: float | None) -> str:
    return f"{seconds * 1000:.3f}" if seconds is not None else ""


def _spread(ratio: Ratio | None) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio is not None else ""


def _median(ratio: Ratio | None) -> str:
    return f"{ratio.median:.2f}" if ratio is not None else ""
