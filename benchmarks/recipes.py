"""What leaderjob's recipes cost beside those of others: locks, queues, topics and registries, all in one run.

Everybody has a process of its own, and a turn in each round; what counts are ratios within a round. etcd for ours, for
`etcdctl lock` and for tooz, ZooKeeper for kazoo: no server waits for its disk. Then: what a handover of a lock costs in
round trips. Targets: ahead of each Python peer, wherever it has the feature; a lock that nobody disputes within 1.5 times
two bare puts; a handover within 3 round trips.

    python benchmarks/recipes.py [--quick] [--rounds N] [--only lock,queue] [--json FILE] [--write]

What is not installed is left out, with a line that says how to get it; tooz and kazoo are installed, when they are
missing, into a virtualenv of their own (.venvs/bench).
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from contest.contestants import NotInstalled
from contest.player import Player, TurnFailed
from contest.report import machine
from takeover.pages import with_table
from takeover.servers import ServerNotStarted, Servers
from tournament.arena import compete
from tournament.entrants import Entrant, entrants
from tournament.events import KINDS, events
from tournament.handovers import measure_handovers
from tournament.report import Report
from tournament.table import markdown, render

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import LeaderjobError

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = _ROOT / "docs" / "benchmarks.md"
_VENVS = _ROOT / ".venvs" / "bench"
MARKS = ("<!-- recipes: written by benchmarks/recipes.py -->", "<!-- recipes: end -->")
ROUND_TRIPS = "round-trips"
PARTS = (*KINDS, ROUND_TRIPS)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done.

    :param rounds: at most. :param limit_s: after so many seconds no further round begins.
    :param divisor: of repetitions, and of how many wait, subscribe or register.
    """

    rounds: int
    limit_s: float
    divisor: int
    waiting: int
    handovers: int


FULL = Extent(rounds=9, limit_s=270.0, divisor=1, waiting=50, handovers=20)
QUICK = Extent(rounds=2, limit_s=20.0, divisor=10, waiting=10, handovers=5)


async def measure(
    extent: Extent,
    *,
    parts: Collection[str] = PARTS,
    taking_part: Sequence[Entrant] | None = None,
    servers: Servers,
    venvs: Path,
    binary: Path | None,
) -> Report:
    """Everything that is asked for, in one run.

    :param taking_part: all, if None. :param binary: of etcd; see :func:`leaderjob.embedded.etcd.find_binary`.
    :raises TurnFailed: ours or the two puts failed: there is nothing to compare.
    """
    wanted = [event.divided_by(extent.divisor) for event in events() if event.kind in parts]
    present: list[Entrant] = []
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        etcd = await stack.enter_async_context(EmbeddedEtcd(scratch / "etcd", binary=binary, fsync=False))
        players: dict[str, Player] = {}
        for entrant in entrants() if taking_part is None else taking_part:
            try:
                python = await asyncio.to_thread(entrant.interpreter, venvs)
                endpoint = etcd.endpoint
                if entrant.server == "zookeeper":
                    endpoint = await stack.enter_async_context(servers.zookeeper(scratch / "zookeeper"))
            except (NotInstalled, ServerNotStarted) as reason:
                absent[entrant.name] = str(reason)
                continue
            log = scratch / f"{entrant.contestant.module}.log"
            player = Player(entrant.contestant, python, endpoint, log, programs="tournament.peers")
            stack.push_async_callback(player.stop)
            players[entrant.name] = player
            present.append(entrant)
        scores = await compete(
            players, present, wanted, rounds=extent.rounds, limit_s=extent.limit_s, told=_tell
        )
        handover = None
        if ROUND_TRIPS in parts:
            _tell("handovers of a lock")
            handover = await measure_handovers(etcd.endpoint, waiting=extent.waiting, times=extent.handovers)
        return Report(machine(etcd.endpoint), present, wanted, scores, handover, absent)


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _rounds(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    return chosen


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="some 30 s instead of 4 minutes, smaller crowds, and no verdict"
    )
    parser.add_argument(
        "--rounds", type=_rounds, metavar="N", help=f"at most ({FULL.rounds}; {QUICK.rounds} with --quick)"
    )
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART[,…]", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    parser.add_argument("--etcd", type=Path, metavar="PROGRAM", help="the etcd server to run")
    parser.add_argument(
        "--jars", type=Path, default=Servers().jars, help="where ZooKeeper's are [%(default)s]"
    )
    parser.add_argument("--venvs", type=Path, default=_VENVS, help="where peers are installed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all targets are met, or nobody can tell; 1: not; 2: it could not be measured."""
    options = _arguments(arguments)
    extent = QUICK if options.quick else FULL
    if options.rounds is not None:
        extent = replace(extent, rounds=options.rounds)
    try:
        report = asyncio.run(
            measure(
                extent,
                parts=options.only,
                servers=Servers(options.jars),
                venvs=options.venvs,
                binary=options.etcd,
            )
        )
        _tell("")
        print(render(report))
        if options.write:
            _PAGE.write_text(with_table(_PAGE.read_text(), markdown(report), MARKS))
    except (TurnFailed, TimeoutError, LeaderjobError) as error:
        print(f"recipes: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 1 if report.problems and report.can_tell and not options.quick else 0


if __name__ == "__main__":
    sys.exit(main())
