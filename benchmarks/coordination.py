"""What leaderjob's etcd client costs beside the bare gRPC stubs (the limit) and other Python clients of etcd.

Ratios within one run on one etcd server, which does not wait for its disk (--unsafe-no-fsync): it is the clients
that are compared. Everybody has a process of its own, and a turn in each round. Then: what a campaign and a
handover cost in round trips. Targets: within 1.15 of the limit, ahead of each peer.

    python benchmarks/coordination.py [--quick] [--rounds N] [--json FILE]

The peers are installed, when they are missing, into virtualenvs of their own (.venvs/bench).
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from contest.arena import compete
from contest.contestants import NotInstalled, contestants, interpreter
from contest.elections import measure_elections
from contest.loads import loads
from contest.player import Player, TurnFailed
from contest.report import Report, machine
from contest.stage import Stage
from contest.table import render

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import LeaderjobError

_VENVS = Path(__file__).resolve().parent.parent / ".venvs" / "bench"
_REPLAYED = 10_000


async def measure(
    *, rounds: int, limit_s: float, divisor: int, handovers: int, venvs: Path, binary: Path | None
) -> Report:
    """Everything, in one run.

    :param limit_s: after so many seconds no further round begins.
    :param divisor: of the number of calls and events in a turn.
    :raises TurnFailed: ours or the limit failed: there is nothing to compare.
    """
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        async with (
            EmbeddedEtcd(Path(scratch) / "etcd", binary=binary, fsync=False) as etcd,
            Stage.set_up(etcd.endpoint, history_events=_REPLAYED // divisor) as stage,
        ):
            players = []
            for contestant in contestants():
                try:
                    python = await asyncio.to_thread(interpreter, contestant, venvs)
                except NotInstalled as reason:
                    absent[contestant.name] = str(reason)
                    continue
                log = Path(scratch) / f"{contestant.module}.log"
                players.append(Player(contestant, python, etcd.endpoint, log))
            played = [load.divided_by(divisor) for load in loads(replayed=_REPLAYED)]
            try:
                scores = await compete(players, played, stage, rounds=rounds, limit_s=limit_s, told=_tell)
            finally:
                for player in players:
                    await player.stop()
            _tell("campaigns and handovers")
            elections = await measure_elections(etcd.endpoint, stage, handovers=handovers)
            return Report(
                machine=machine(etcd.endpoint),
                contestants=tuple(player.contestant for player in players),
                absent=absent,
                scores=scores,
                elections=elections,
            )


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _rounds(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="some 20 s instead of 4 minutes, and less certain"
    )
    parser.add_argument("--rounds", type=_rounds, metavar="N", help="at most (20; 4 with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there as well")
    parser.add_argument("--etcd", type=Path, metavar="PROGRAM", help="the etcd server to run")
    parser.add_argument("--venvs", type=Path, default=_VENVS, help="where the peers are installed")
    options = parser.parse_args(arguments)
    try:
        report = asyncio.run(
            measure(
                rounds=options.rounds or (4 if options.quick else 20),
                limit_s=15.0 if options.quick else 200.0,
                divisor=4 if options.quick else 1,
                handovers=5 if options.quick else 20,
                venvs=options.venvs,
                binary=options.etcd,
            )
        )
    except (TurnFailed, LeaderjobError) as error:
        print(f"coordination: {error}", file=sys.stderr)
        return 2
    _tell("")
    print(render(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    return 0 if report.meets_targets or not report.can_tell else 1


if __name__ == "__main__":
    sys.exit(main())
