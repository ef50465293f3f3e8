"""What a job author gets: ``@job``, ``JobContext``, two exceptions that steer retries, and one for wrong queries.

This module is what a worker process imports of leaderjob, so it imports the standard library only.
Nothing is validated here beyond types: the replica does that, from the description of the job.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, overload

Json = Any
"""A JSON value: None, bool, int, float, str, or lists and dictionaries (with str keys) of those."""

Answer = Callable[..., Json]
"""Answers one query: keyword arguments in, a JSON value out."""

Opener = Callable[[Path], Answer]
"""Opens the directory of a published version, once, and returns what answers queries on it."""


class RetryLater(Exception):
    """Raised by a job: this attempt failed, try again after ``delay_s`` seconds (if retries are left)."""

    def __init__(self, delay_s: float, reason: str = "") -> None:
        super().__init__(reason or f"retry in {delay_s:g} s")
        self.delay_s = delay_s


class Permanent(Exception):
    """Raised by a job: this run failed for good, do not retry it."""


class BadQuery(ValueError):
    """Raised by what answers a job's queries: the query is wrong, and the message tells the caller why."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The arguments of ``@job``, as the author wrote them."""

    name: str
    schedule: str | tuple[str, ...] | None = None
    time_zone: str = "UTC"
    timeout: str | float = "1h"
    overlap: str = "forbid"
    misfire_grace: str | float = "1m"
    retries: int = 0
    on_leader_loss: str = "restart"
    max_leader_losses: int = 3
    description: str = ""


class Job:
    """A job function with its options. Calling it calls the function, which makes it easy to test.

    :param defined_in: names of modules: that of the function, and that in which ``@job`` was written. They differ for
        a ``functools.partial``, a method, and a function that another module has wrapped.
    :param problem: why it cannot be used, where that is known when it is defined.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        options: JobOptions,
        defined_in: frozenset[str],
        problem: str | None = None,
    ) -> None:
        self.function = function
        self.options = options
        self.defined_in = defined_in
        self.problem = problem
        self.opener: Opener | None = None
        self.__doc__ = function.__doc__
        self.__name__ = options.name
        self.__module__ = getattr(function, "__module__", None) or __name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def query(self, opener: Opener) -> Opener:
        """Decorate the function that opens a published version for queries.

        It is called once per version, in a child process of each replica, with the version's
        directory (read-only); what it returns is called with the fields of each query.
        """
        self.opener = opener
        return opener


@overload
def job(function: Callable[..., Any], /) -> Job: ...


@overload
def job(
    *,
    name: str | None = None,
    schedule: str | list[str] | tuple[str, ...] | None = None,
    time_zone: str = "UTC",
    timeout: str | float = "1h",
    overlap: str = "forbid",
    misfire_grace: str | float = "1m",
    retries: int = 0,
    on_leader_loss: str = "restart",
    max_leader_losses: int = 3,
) -> Callable[[Callable[..., Any]], Job]: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    schedule: str | list[str] | tuple[str, ...] | None = None,
    time_zone: str = "UTC",
    timeout: str | float = "1h",
    overlap: str = "forbid",
    misfire_grace: str | float = "1m",
    retries: int = 0,
    on_leader_loss: str = "restart",
    max_leader_losses: int = 3,
) -> Job | Callable[[Callable[..., Any]], Job]:
    """Turn a function into a job. The function's first parameter is the :class:`JobContext`.

    :param name: the job's name, by default the function's.
    :param schedule: crontab (``*/15 * * * *``, ``@daily``) or ``every 90s``, or several of them;
        ``None`` means that it only runs when it is triggered.
    :param time_zone: the zone in which a crontab schedule is read.
    :param timeout: how long one attempt may take; ``30m``, ``90s``, or seconds.
    :param overlap: what a fire does while the previous run is active: ``forbid`` skips it.
    :param misfire_grace: how late a fire may start.
    :param retries: how often a failed attempt is tried again.
    :param on_leader_loss: ``restart`` (at least once) or ``abandon`` (at most once).
    :param max_leader_losses: how often a run is started again after its leader was lost.
    """

    problem = None
    if function is not None and not callable(function):
        # Not raised: that would cost the other jobs of the module.
        problem = f"@job was given a {type(function).__name__}: its options have names, as in @job(schedule='@daily')"
    written_in = str(sys._getframe(1).f_globals.get("__name__", ""))

    def decorate(decorated: Callable[..., Any]) -> Job:
        named = _named(decorated)
        lines = str(named.__doc__ or "").strip().splitlines()
        options = JobOptions(
            name=name or str(getattr(named, "__name__", type(named).__name__)),
            schedule=tuple(schedule) if isinstance(schedule, list | tuple) else schedule,
            time_zone=time_zone,
            timeout=timeout,
            overlap=overlap,
            misfire_grace=misfire_grace,
            retries=retries,
            on_leader_loss=on_leader_loss,
            max_leader_losses=max_leader_losses,
            description=lines[0] if lines else "",
        )
        defined_in = frozenset({written_in, str(getattr(decorated, "__module__", ""))})
        return Job(decorated, options, defined_in, problem)

    return decorate if function is None or problem else decorate(function)


@dataclass(slots=True)
class JobContext:
    """What a job knows about its run, and what it can tell the world.

    Outside leaderjob (in a test of your job) build one with :meth:`local`.
    """

    job: str
    run_id: str
    attempt: int
    fencing_token: int
    fire_time: datetime | None
    log: logging.Logger
    _artifacts: Path
    _previous: Path | None = None
    _send: Callable[[Mapping[str, Json]], None] = field(default=lambda message: None, repr=False)
    _stopping: Callable[[], bool] = field(default=lambda: False, repr=False)

    @classmethod
    def local(cls, artifacts: Path, *, job: str = "local", previous: Path | None = None) -> "JobContext":
        """A context without a cluster, for tests: artifacts go to the directory ``artifacts``."""
        return cls(job, "local", 1, 0, None, logging.getLogger(f"job.{job}"), artifacts, previous)

    def progress(self, done: float, total: float, message: str = "") -> None:
        """Tell every watcher how far the run is. Cheap: call it as often as you like."""
        self._send({"type": "progress", "done": done, "total": total, "message": message})

    def artifact_dir(self) -> Path:
        """An empty directory; the regular files that are in it at the end are published together."""
        self._artifacts.mkdir(parents=True, exist_ok=True)
        return self._artifacts

    def previous(self) -> Path | None:
        """The directory of the last published version (read-only), or None: for incremental builds."""
        return self._previous

    @property
    def cancelled(self) -> bool:
        """True once the run was asked to stop; a job that returns soon after keeps what it wrote clean."""
        return self._stopping()


def _named(function: Callable[..., Any]) -> Any:
    """What has the name and the text that describe a job: the function in a ``functools.partial``, else itself."""
    inner: Any = function
    while not hasattr(inner, "__name__") and callable(getattr(inner, "func", None)):
        inner = inner.func
    return inner
