"""A short run under watch: replicas with or without a defect, and what the checker says of it."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from leaderjob.etcd import Etcd
from tests.faults.history.checker import check
from tests.faults.history.effects import What
from tests.faults.history.past import History
from tests.faults.history.recorder import Recorder
from tests.faults.history.violation import Bounds, Violation
from tests.faults.history.watched import JOBS, NAMES, Watched
from tests.support.replicas import SHORT_TTL_S, Cluster, Replica
from tests.support.streams import run_with_streams

BOUNDS = Bounds(ttl_s=SHORT_TTL_S, margin_s=0.75)


class WatchedReplica(Replica):
    """:param defect: of ``defects.py``. :param fault: of ``faults.py``."""

    def __init__(
        self, name: str, directory: Path, arguments: Sequence[str], defect: str | None, fault: str | None
    ) -> None:
        super().__init__(name, directory, arguments)
        self.settings |= Watched.settings()
        launcher = [sys.executable, "-m", "tests.faults.history.defective"]
        launcher += [f"--defect={defect}"] if defect else []
        launcher += [f"--fault={fault}"] if fault else []
        assert self._command[:3] == [sys.executable, "-m", "leaderjob"]
        self._command = [*launcher, "--", *self._command[3:]]

    def jobs(self) -> set[str]:
        return set(NAMES)


class Scene(Cluster):
    """Replicas of one namespace, recorded. Not started yet."""

    def __init__(
        self,
        endpoint: str,
        namespace: str,
        directory: Path,
        *,
        names: Sequence[str],
        watched: Watched,
        recorder: Recorder,
        config: str,
        defect: str | None,
        fault: str | None,
        ttl_s: int,
        margin_s: float,
    ) -> None:
        super().__init__(endpoint, namespace, directory, jobs=JOBS, names=(), ttl_s=ttl_s, config=config)
        arguments = [*self.target, "--jobs", JOBS, "--ttl", f"{ttl_s}s"]
        arguments += ["--config", str(directory / "settings.toml")]
        for name in names:
            replica = WatchedReplica(name, directory, arguments, defect, fault)
            self.replicas[name] = replica
            watched.follow(name, log=replica.log_path, state_dir=replica.state_dir)
        self.recorder = recorder
        self._watched = watched
        self._bounds = replace(BOUNDS, ttl_s=ttl_s, margin_s=margin_s)

    def history(self, **options: bool) -> History:
        return self.recorder.history(self._watched, **options)

    def violations(self, *, healthy: bool = False, **options: bool) -> list[Violation]:
        """What the checker says now; ``options`` are those of :meth:`Recorder.history`."""
        found = check(self.history(**options), replace(self._bounds, healthy=healthy))
        for violation in found:
            sys.stdout.write(f"{violation}\n")
        return found

    def violated(self, **options: bool) -> set[str]:
        """Which invariants."""
        return {violation.invariant for violation in self.violations(**options)}

    def working(self, job: str) -> int:
        """The pid of a worker of that job, once it works."""
        return self.wait_for_effects(job, What.BEGAN, 1)

    def wait_for_effects(self, job: str, what: What, count: int, *, timeout_s: float = 15.0) -> int:
        """The pid of the last of so many effects of a job, once they are there."""
        give_up_at = time.monotonic() + timeout_s
        while True:
            found = [each for each in self._watched.effects() if each.job == job and each.what is what]
            if len(found) >= count:
                return found[-1].pid
            assert time.monotonic() < give_up_at, f"{job}: not {count} times {what}\n{self.logs()}"
            time.sleep(0.02)

    def times_told(self, replica: str, event: str) -> int:
        """How often a replica has told an event until now."""
        return sum((told.replica, told.event) == (replica, event) for told in self._watched.told())

    def wait_until_told(self, replica: str, event: str, count: int = 1, *, timeout_s: float = 15.0) -> None:
        """Return once a replica has told an event so often."""
        give_up_at = time.monotonic() + timeout_s
        while self.times_told(replica, event) < count:
            assert time.monotonic() < give_up_at, f"{replica} did not tell {event}\n{self.logs()}"
            time.sleep(0.02)

    @staticmethod
    def let_pass(seconds: float) -> None:
        """Where it is claimed that nothing happens, there is no event to wait for."""
        time.sleep(seconds)

    def delete(self, key: str) -> None:
        """Delete a key as an operator does."""

        async def delete() -> None:
            async with Etcd([self.endpoint]) as etcd:
                await etcd.delete(key)

        run_with_streams(delete())

    def candidate_key(self, replica: str) -> str:
        """Where a replica stands for election."""
        view = self.until(
            f"{replica} stands", lambda view: any(found.record.replica == replica for found in view.queue)
        )
        return next(found.key for found in view.queue if found.record.replica == replica)


@contextmanager
def scene(
    endpoint: str,
    namespace: str,
    directory: Path,
    *,
    names: Sequence[str] = ("r1", "r2"),
    jobs: Sequence[str] = (),
    schedules: Mapping[str, str] | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    defect: str | None = None,
    fault: str | None = None,
    ttl_s: int = SHORT_TTL_S,
    margin_s: float = BOUNDS.margin_s,
) -> Iterator[Scene]:
    """:param jobs: which of those under watch run by their schedules."""
    watched = Watched(directory)
    settings = f'[election]\nmargin = "{margin_s}s"\n' + watched.config(
        jobs, schedules=schedules, params=params
    )
    with Recorder([endpoint], namespace) as recorder:
        cluster = Scene(
            endpoint,
            namespace,
            directory / "replicas",
            names=names,
            watched=watched,
            recorder=recorder,
            config=settings,
            defect=defect,
            fault=fault,
            ttl_s=ttl_s,
            margin_s=margin_s,
        )
        with cluster:
            yield cluster
