"""What the parts of a term work with."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from leaderjob.engine.stepdown import StepDown
from leaderjob.execution.attestation import Attestation
from leaderjob.model.history import History
from leaderjob.recipes import Leadership
from leaderjob.records.feed import Feed
from leaderjob.records.fenced import FencedWriter
from leaderjob.records.keys import Keys
from leaderjob.results.store import Store
from leaderjob.scheduling.alarm import Alarm


@dataclass(frozen=True, slots=True)
class Limits:
    """How results are published and records are kept.

    :param publish_after: how many followers must hold a verified copy first.
    :param keep_versions: how many versions before the current one stay listed.
    :param keep_runs: how many finished runs of a job stay in the ledger.
    :param keep_skipped: how many fires of a job that were skipped or missed stay in the ledger.
    :param remove_after_s: how long no live replica must have had a job until it is removed.
    :param drain_s: for how long runs under way may go on when the term is to end.
    """

    publish_after: int
    publish_timeout_s: float
    keep_versions: int
    keep_runs: int
    keep_skipped: int
    kill_grace_s: float
    drain_s: float = 0.0
    remove_after_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Office:
    """A term, and what it works with.

    :param work_dir: where attempts have their directories.
    :param previous: the directory of a job's active version on this replica, if there is one.
    :param all_loaded: whether every module of this replica loaded.
    :param attestation: opens where the guard of an attempt attests.
    :param draining: called when the term steps down with work under way.
    """

    replica: str
    leadership: Leadership
    writer: FencedWriter
    keys: Keys
    feed: Feed
    history: History
    store: Store
    alarm: Alarm
    stepdown: StepDown
    work_dir: Path
    cwd: Path
    previous: Callable[[str], Path | None]
    attestation: Callable[[], AbstractContextManager[Attestation | None]]
    limits: Limits
    all_loaded: Callable[[], bool] = lambda: False
    draining: Callable[[], None] = lambda: None
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while records of a removed job are ended or deleted: to end them creates records, too."""

    @property
    def token(self) -> int:
        return self.leadership.term.token
