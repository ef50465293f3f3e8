"""How long nobody leads, and how long a run waits, when a leader goes: beside others, and beside the limit.

Three replicas as real processes on this machine. Each trial does something to the leader and takes the time until
(a) another one acts as leader: a watch shows the first write of its term; (b) its first run begins: the one that was
under way, or else one that was asked for at the moment of the fault. In the same run: the steps that no takeover
can do without, ours with the lease alone, `etcdctl`, tooz on Redis and ZooKeeper, kazoo. No server waits for its disk.

    python benchmarks/failover.py [--trials 200] [--write] [--json FILE] [--only killed,limit]

Faults that cut a machine off need root. Rivals that are not installed are left out, with a line that says how to get
them; the Python ones go into a virtualenv of their own (.venvs/bench).
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from takeover.pages import read_findings, write_pages
from takeover.programme import PARTS, Programme
from takeover.results import Findings
from takeover.servers import Servers
from takeover.table import render

from leaderjob.embedded.etcd import find_binary
from leaderjob.errors import LeaderjobError

_ROOT = Path(__file__).resolve().parent.parent
_VENVS = _ROOT / ".venvs" / "bench"
_QUICK_TRIALS = 10


def machine(etcd: Path) -> str:
    """What this is measured on, in words. :param etcd: the server's program."""
    told = subprocess.run([etcd, "--version"], capture_output=True, text=True, check=False).stdout
    release = told.partition("etcd Version:")[2].split("\n")[0].strip() or "of an unknown release"
    cores = len(os.sched_getaffinity(0))
    load = f"load {os.getloadavg()[0]:.1f} before"
    return f"etcd {release} without fsync, Python {platform.python_version()}, {cores} cores ({load})"


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := set(chosen) - set(PARTS):
        raise argparse.ArgumentTypeError(
            f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}"
        )
    return chosen


def _trials(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError(text)
    return count


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--trials",
        type=_trials,
        default=_QUICK_TRIALS,
        metavar="N",
        help=f"of what takes milliseconds, and fewer of the rest [{_QUICK_TRIALS}: some 3 minutes; 200: some 45]",
    )
    parser.add_argument(
        "--only", type=_parts, default=PARTS, metavar="PART[,…]", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there as well")
    parser.add_argument("--write", action="store_true", help="put table and plot into docs/")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: show what --json wrote")
    parser.add_argument("--etcd", type=Path, metavar="PROGRAM", help="the etcd server to run")
    parser.add_argument(
        "--jars", type=Path, default=Servers().jars, help="where ZooKeeper's are [%(default)s]"
    )
    parser.add_argument("--venvs", type=Path, default=_VENVS, help="where rivals are installed")
    return parser.parse_args(arguments)


def _measured(options: argparse.Namespace) -> Findings:
    """:raises LeaderjobError: something that is needed could not be started."""
    etcd = find_binary(options.etcd)
    found = Findings(machine(etcd))
    with tempfile.TemporaryDirectory() as scratch:
        programme = Programme(
            directory=Path(scratch),
            trials=options.trials,
            venvs=options.venvs,
            parts=options.only,
            servers=Servers(options.jars),
            etcd=etcd,
            tell=_tell,
        )
        try:
            asyncio.run(programme.run(found))
        finally:
            _tell("")
            if options.json is not None:
                options.json.write_text(json.dumps(found.as_json(), indent=1) + "\n")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all targets are met; 1: not; 2: it could not be measured."""
    options = _arguments(arguments)
    try:
        found = read_findings(options.show) if options.show is not None else _measured(options)
        print(render(found))
        if options.write:
            write_pages(found, _ROOT / "docs")
    except LeaderjobError as error:
        print(f"failover: {error}", file=sys.stderr)
        return 2
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
