"""``python -m tests.faults.sequences --seed N --faults N``: random faults; exit code 1 if anything was violated."""

import argparse
import os
import platform
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from leaderjob.version import __version__
from tests.faults.harness.members import Network, best_network
from tests.faults.sequences import report
from tests.faults.sequences.draw import draw
from tests.faults.sequences.faults import possible
from tests.faults.sequences.play import Played, Struck, play
from tests.support.etcd import line_of, releases, version_of


def main() -> int:
    asked = _arguments().parse_args()
    seed = secrets.randbelow(1_000_000) if asked.seed is None else asked.seed
    network: Network = "proxies" if asked.loopback else best_network()
    binary = next(binary for binary in releases() if asked.etcd in (None, line_of(binary)))
    etcd = f"etcd {version_of(binary)}"
    among = possible(network)
    played: list[Played] = []
    for number in range(asked.sequences):
        say(f"seed {seed + number}, {asked.faults} faults, {etcd}, {network}")
        directory = Path(tempfile.mkdtemp(prefix="faults-"))
        steps = draw(seed + number, asked.faults, among)
        done = play(steps, directory, tell=_told, binary=binary, network=network)
        for violation in done.violations:
            say(f"VIOLATION {violation}")
        played.append(done)
        if done.violations:
            say(f"what replicas and jobs wrote is in {directory}")
        else:
            shutil.rmtree(directory)
    violations = sum(len(done.violations) for done in played)
    say(f"{asked.sequences * asked.faults} faults, {violations} violations")
    if asked.table is not None:
        again = f"python -m tests.faults.sequences --seed {seed} --sequences {asked.sequences} --faults {asked.faults}"
        facts = {
            "command": f"`{again} --etcd {line_of(binary)}`",
            "seeds": f"{seed} to {seed + asked.sequences - 1}",
            "versions": f"leaderjob {__version__}, {etcd}, Python {platform.python_version()}",
            "machine": f"{os.cpu_count()} processors, Linux {platform.release()}, {network}",
        }
        report.write(asked.table, f"faults on {etcd}", report.table(among, played, facts))
    return 1 if violations else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _told(struck: Struck) -> None:
    say(report.line(struck))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sequences", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the first sequence; a random one, which is printed")
    parser.add_argument("--faults", type=int, default=20, help="in each sequence (default: 20)")
    parser.add_argument(
        "--sequences", type=int, default=1, help="how many, each with the next seed and a cluster of its own"
    )
    parser.add_argument(
        "--etcd",
        choices=[line_of(binary) for binary in releases()],
        help="a line of releases that is here (default: the one that tests use)",
    )
    parser.add_argument("--loopback", action="store_true", help="no machines of their own, also as root")
    parser.add_argument("--table", type=Path, help="write the result as a table into this page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
