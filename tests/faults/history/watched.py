"""A run under watch: where its jobs and replicas leave their lines, and what they have to be told for that."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leaderjob.errors import LeaderjobError
from leaderjob.results.digests import file_matches
from leaderjob.results.errors import ObjectMissing
from leaderjob.results.manifest import decode_manifest
from leaderjob.results.objects import Objects
from tests.faults.history.effects import Effect, read_effects
from tests.faults.history.past import Served
from tests.faults.history.told import Told, read_log

JOBS = "tests.faults.history.jobs_under_watch"
"""The setting ``jobs`` of replicas under watch."""

NAMES = ("builds", "ticks", "escapes")


@dataclass(frozen=True, slots=True)
class _Followed:
    log: Path
    state_dir: Path


@dataclass(slots=True)
class Watched:
    """:param directory: for the effects of jobs; it exists.

    ``builds`` (every 3 s, for 1 s, with an artifact), ``ticks`` (every second, over at once) and ``escapes``
    (every 4 s, for 1 s, ignores TERM and double-forks) run unless they are left out.
    """

    directory: Path
    _replicas: dict[str, _Followed] = field(default_factory=dict)

    @property
    def effects_file(self) -> Path:
        return self.directory / "effects.jsonl"

    def config(
        self,
        jobs: Iterable[str] = NAMES,
        *,
        schedules: Mapping[str, str] | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> str:
        """Settings for ``leaderjob.toml``: which of the jobs run, and where to they tell what they do.

        :param schedules: others than their own, by job. :param params: more of them, by job.
        """
        wanted, lines = set(jobs), []
        for name in NAMES:
            schedule = (schedules or {}).get(name) if name in wanted else ""
            values = {"effects": str(self.effects_file), **((params or {}).get(name) or {})}
            table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
            lines += [f"[overrides.{name}]", f"params = {{{table}}}"]
            lines += [f"schedule = {json.dumps(schedule)}"] if schedule is not None else []
        return "\n".join(lines) + "\n"

    @staticmethod
    def settings() -> dict[str, str]:
        """For a replica's environment: it has to tell when exactly what happens, and all of it."""
        return {"LEADERJOB_LOG_FORMAT": "json", "LEADERJOB_LOG_LEVEL": "debug"}

    def follow(self, replica: str, *, log: Path, state_dir: Path) -> None:
        """Look at what this replica tells and holds: its log, with one process after the other."""
        self._replicas[replica] = _Followed(log, state_dir)

    def effects(self) -> tuple[Effect, ...]:
        return read_effects([self.effects_file] if self.effects_file.exists() else [])

    def told(self) -> tuple[Told, ...]:
        found: list[Told] = []
        for name, replica in self._replicas.items():
            if replica.log.exists():
                found += read_log(name, replica.log)
        return tuple(found)

    def served(self, digests: Mapping[str, Iterable[str]]) -> tuple[Served, ...]:
        """What the replicas' disks have under the digests of manifests, by job."""
        found = [
            _served(name, replica.state_dir / "store", job, digest)
            for name, replica in self._replicas.items()
            for job, wanted in digests.items()
            for digest in wanted
            if (replica.state_dir / "store").is_dir()
        ]
        return tuple(each for each in found if each is not None)


def _served(replica: str, store: Path, job: str, digest: str) -> Served | None:
    """None: it does not have all of it, or not any more."""
    objects, run, whole = Objects(store), None, True
    try:
        with objects.open(digest) as blob:
            whole = file_matches(blob, digest)
            blob.seek(0)
            manifest = decode_manifest(blob.read())
        for entry in manifest.files:
            with objects.open(entry.digest) as file:
                whole = whole and file_matches(file, entry.digest)
                if entry.path == "run.json":
                    file.seek(0)
                    run = json.loads(file.read())["run"]
    except ObjectMissing:
        return None
    except (OSError, LeaderjobError, ValueError):
        whole = False
    return Served(replica, job, digest, whole, run)
