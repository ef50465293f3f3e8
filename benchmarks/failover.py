"""How long nobody leads, and how long a job waits, when a leader goes: killed, stopped in order, or paused.

Three replicas as real processes, one etcd, all on this machine. Each trial does something to the leader and takes
the time until (a) another one acts as leader, as an observer sees it in etcd, and, where a run was under way,
(b) the job's next worker has started. The limit for (a) is what no candidate can do without: to hear that the
connection is gone, and four answers of etcd one after the other (delete, list, prove, proclaim), measured in the
same run. Beside them the same crash with fast takeover off, which is what a lease alone can do.

    python benchmarks/failover.py [--trials 30] [--slow-trials 5] [--json FILE]
"""

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderjob.client import Client
from leaderjob.clock import boottime
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd

TTL_S, SLOW_TTL_S = 10, 5
_TARGETS_MS = {"killed": (10, 60), "killed in mid-run": (10, 60), "stopped in order": (10, None)}
_WORKER_TARGET_MS = 150
_SETTLE_S = 1.5
_ROUND_TRIPS = 4
_JOB = """
import time
from pathlib import Path
from leaderjob import job

@job(max_leader_losses=1000)
def holds(ctx, path: str):
    with Path(path).open("a") as began:
        began.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME)}\\n")
    while not Path(path + ".over").exists():
        time.sleep(0.005)
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """Milliseconds from what was done to the leader."""

    acting_ms: float
    worker_ms: float | None = None


class Cluster:
    def __init__(self, etcd: EmbeddedEtcd, directory: Path, ttl_s: int, *options: str) -> None:
        self.client = Client([etcd.endpoint], directory.name)
        directory.mkdir()
        (directory / "work.py").write_text(_JOB)
        (directory / "settings.toml").write_text("\n".join(options))
        arguments = ["--etcd", etcd.endpoint, "--namespace", directory.name, "--ttl", f"{ttl_s}s"]
        arguments += ["--jobs", "work", "--config", str(directory / "settings.toml")]
        self.replicas = {name: ReplicaProcess(name, directory, arguments) for name in ("r1", "r2", "r3")}
        self._began = directory / "began"
        self._over = directory / "began.over"

    async def settle(self) -> ReplicaProcess:
        """Start who does not run; returns the leader once all three are in line and watch each other."""
        for replica in self.replicas.values():
            if replica.pid is None:
                replica.start()
        async with aclosing(self.client.follow()) as batches:
            async for _, view in batches:
                if len(view.queue) == 3 and len(view.members) == 3 and view.queue[0].record.leading_since:
                    break
        await asyncio.sleep(_SETTLE_S)
        return self.replicas[view.queue[0].record.replica]

    async def trial(self, strike: Callable[[ReplicaProcess], None], *, in_mid_run: bool = False) -> Trial:
        leader = await self.settle()
        run = await self._begin() if in_mid_run else None
        before = len(self._starts())
        async with self._next_leader(leader.name) as acting:
            struck_at = boottime()
            strike(leader)
            acting_at = await acting
        worker_ms = None
        if run is not None:
            await self._another_start(before)
            worker_ms = (self._starts()[-1] - struck_at) * 1000
            self._over.touch()
            await self.client.wait_for_run("holds", run)
        return Trial((acting_at - struck_at) * 1000, worker_ms)

    async def close(self) -> None:
        await stop_all(list(self.replicas.values()))
        await self.client.__aexit__(None, None, None)

    async def _begin(self) -> str:
        self._over.unlink(missing_ok=True)
        before = len(self._starts())
        run = await self.client.trigger("holds", {"path": str(self._began)})
        await self._another_start(before)
        return run

    async def _another_start(self, before: int) -> None:
        while len(self._starts()) == before:  # noqa: ASYNC110 - another process writes a line
            await asyncio.sleep(0.002)

    def _starts(self) -> list[float]:
        return [float(line) for line in self._began.read_text().split()] if self._began.exists() else []

    @asynccontextmanager
    async def _next_leader(self, former: str) -> AsyncIterator[Awaitable[float]]:
        """When another one is seen to act as leader; the observer watches already when this is entered."""
        watching = asyncio.Event()

        async def see() -> float:
            async with aclosing(self.client.follow()) as batches:
                async for _, view in batches:
                    watching.set()
                    leader = view.leader
                    if leader and leader.record.replica != former and leader.record.leading_since:
                        return boottime()
            raise AssertionError("a feed does not end")

        seeing = asyncio.create_task(see())
        await watching.wait()
        await asyncio.sleep(0.1)  # the watch stands once the listing has been told
        yield seeing


async def round_trip_ms(etcd: EmbeddedEtcd) -> float:
    """The median of writes, each waited for."""
    async with Etcd([etcd.endpoint]) as client:
        took = []
        for _ in range(200):
            began = time.perf_counter()
            await client.put("/benchmark", b"")
            took.append((time.perf_counter() - began) * 1000)
        return statistics.median(took)


def kill(leader: ReplicaProcess) -> None:
    leader.kill()


async def measure(directory: Path, trials: int, slow_trials: int) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    async with EmbeddedEtcd(directory / "etcd", fsync=False) as etcd:
        print(
            f"a write to etcd takes {(one := await round_trip_ms(etcd)):.2f} ms; "
            f"the limit for a takeover is {_ROUND_TRIPS} of them: {one * _ROUND_TRIPS:.1f} ms"
        )
        fast = Cluster(etcd, directory / "fast", TTL_S)
        try:
            found["killed"] = [await fast.trial(kill) for _ in range(trials)]
            found["killed in mid-run"] = [await fast.trial(kill, in_mid_run=True) for _ in range(trials)]
            found["stopped in order"] = [await _in_order(fast) for _ in range(trials)]
        finally:
            await fast.close()
        for name, options in (
            ("paused", ()),
            ("killed, lease alone", ("[election]", "takeover_fast = false")),
        ):
            slow = Cluster(
                etcd,
                directory / name.split(",")[0].replace(" ", "-").replace("killed", "lease"),
                SLOW_TTL_S,
                *options,
            )
            try:
                found[f"{name} (TTL {SLOW_TTL_S} s)"] = [
                    await (_paused(slow) if name == "paused" else slow.trial(kill))
                    for _ in range(slow_trials)
                ]
            finally:
                await slow.close()
    return found


async def _in_order(cluster: Cluster) -> Trial:
    struck: list[ReplicaProcess] = []

    def strike(leader: ReplicaProcess) -> None:
        struck.append(leader)
        leader.send(signal.SIGTERM)

    trial = await cluster.trial(strike)
    await struck[0].stop()
    struck[0].kill()
    return trial


async def _paused(cluster: Cluster) -> Trial:
    struck: list[ReplicaProcess] = []

    def strike(leader: ReplicaProcess) -> None:
        struck.append(leader)
        leader.send(signal.SIGSTOP)

    trial = await cluster.trial(strike)
    struck[0].kill()
    return trial


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 100) // 100) - 1)]


def table(found: dict[str, list[Trial]]) -> str:
    lines = [f"{'the leader is':36}{'trials':>7}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}   target p50, p99"]

    def line(name: str, values: list[float], target: str) -> str:
        p50, p99, most = percentile(values, 0.5), percentile(values, 0.99), max(values)
        return f"{name:36}{len(values):>7}{p50:>10,.1f}{p99:>10,.1f}{most:>10,.1f}   {target}"

    for name, trials in found.items():
        p50, p99 = _TARGETS_MS.get(name, (None, None))
        target = f"{p50}, {p99 or '-'}" if p50 else "TTL + 600 ms" if "paused" in name else ""
        lines.append(line(f"{name}: acting leader", [trial.acting_ms for trial in trials], target))
        workers = [trial.worker_ms for trial in trials if trial.worker_ms is not None]
        if workers:
            lines.append(line(f"{name}: next worker", workers, f"{_WORKER_TARGET_MS}, -"))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=30, help="of what takes milliseconds [30]")
    parser.add_argument("--slow-trials", type=int, default=5, help="of what takes a TTL [5]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial there")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = asyncio.run(measure(Path(directory), chosen.trials, chosen.slow_trials))
    print(table(found))
    if chosen.json:
        rows = {
            name: [[trial.acting_ms, trial.worker_ms] for trial in trials] for name, trials in found.items()
        }
        chosen.json.write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
