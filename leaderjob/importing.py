"""The jobs of a replica: its modules are imported side by side, and those that fail or hang are tried again.

A replica starts with what there is after a few seconds. A module that takes longer, or that begins to work later,
brings its jobs in while the replica runs.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from leaderjob.assigning import assign, refuse_unknown_overrides
from leaderjob.catalog.catalog import AT_ONCE, Catalog, CatalogFailure, describe, refuse_namesakes
from leaderjob.catalog.description import JobDescription
from leaderjob.durations import format_duration
from leaderjob.engine.definition import Assignment
from leaderjob.errors import SettingsError
from leaderjob.keep_running import keep_running
from leaderjob.settings import Settings
from leaderjob.telemetry.events import Events, emit

FIRST_LOOK_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0


class Imports:
    """``async with Imports(…) as imports``: imports until all modules have been, or until it is closed.

    :param cwd: where modules are looked for first.
    """

    def __init__(self, settings: Settings, *, cwd: Path) -> None:
        self._settings = settings
        self._cwd = cwd
        self._timeout_s = settings.execution.import_timeout
        self._modules = tuple(dict.fromkeys(settings.jobs))
        self._catalogs: dict[str, Catalog] = {}
        self._tried: dict[str, asyncio.Event] = {module: asyncio.Event() for module in self._modules}
        self._tasks: list[asyncio.Task[None]] = []
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._grown = asyncio.Event()
        self._assignments: dict[str, Assignment] = {}
        self._begun = False

    @property
    def assignments(self) -> Mapping[str, Assignment]:
        """The jobs that there are by now; the same object all the time."""
        return self._assignments

    @property
    def unloaded(self) -> Sequence[CatalogFailure]:
        """The modules that have not been imported, and what of the others cannot be used."""
        return [failure for module in self._modules for failure in self._failures_of(module)]

    def find(self, job: str) -> JobDescription | None:
        found = (catalog.find(job) for catalog in self._catalogs.values())
        return next((description for description in found if description is not None), None)

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(
                keep_running(f"import {module}", partial(self._keep_trying, module)), name=f"import {module}"
            )
            for module in self._modules
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def first_look(self) -> None:
        """Wait until each module has been imported or has failed, but once one has, not long for the others.

        :raises SettingsError: two jobs have one name, or an override names no job.
        """
        looking = [asyncio.ensure_future(tried.wait()) for tried in self._tried.values()]
        try:
            if looking:
                done, _ = await asyncio.wait(looking, timeout=FIRST_LOOK_S)
                if not done:  # on a machine that is busy, there would be no job to begin with
                    await asyncio.wait(looking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in looking:
                waiting.cancel()
        jobs = [job for catalog in self._catalogs.values() for job in catalog.jobs]
        in_order = sorted(jobs, key=lambda job: self._modules.index(job.module))
        refuse_namesakes(in_order)
        refuse_unknown_overrides(Catalog(tuple(in_order), tuple(self.unloaded)), self._settings)
        failures = [failure for catalog in self._catalogs.values() for failure in catalog.failures]
        self._assignments.update(assign(Catalog(tuple(in_order), tuple(failures)), self._settings))
        for module in self._modules:
            if module not in self._catalogs:
                emit(Events.IMPORT_TAKES_LONG, module=module)
        self._begun = True

    async def until_more(self, known: Collection[str]) -> None:
        """Wait until there are jobs that are not in ``known``."""
        while not self._assignments.keys() - set(known):
            await self._grown.wait()

    async def _keep_trying(self, module: str) -> None:
        pause_s, told = FIRST_PAUSE_S, ""
        while True:
            catalog = await self._import(module)
            self._catalogs[module] = catalog
            if self._begun:
                told = self._take_up(module, catalog, told)
            elif catalog.failures:
                told = catalog.failures[0].reason
            self._tried[module].set()
            if catalog.jobs or not catalog.failures:
                return  # a job in it that cannot be used is the author's to mend
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _import(self, module: str) -> Catalog:
        """As :func:`describe`. A module that takes long does not keep the others from their turn."""
        importing: asyncio.Task[Catalog] | None = None
        try:
            async with self._slots:
                importing = asyncio.create_task(describe([module], cwd=self._cwd, timeout_s=self._timeout_s))
                await asyncio.wait([importing], timeout=FIRST_LOOK_S / 2)
            return await importing
        except SettingsError as error:  # two of its own jobs have one name
            return Catalog((), (CatalogFailure(module, str(error)),))
        finally:
            if importing is not None and not importing.done():
                importing.cancel()
                await asyncio.gather(importing, return_exceptions=True)

    def _take_up(self, module: str, catalog: Catalog, told: str) -> str:
        """Let the jobs of a module that was imported late be among the others; what does not fit is its failure."""
        taken = [job for job in catalog.jobs if job.spec.name in self._assignments]
        if taken:
            reason = f"another module has a job called {taken[0].spec.name!r}: rename one with @job(name=…)"
            kept = tuple(job for job in catalog.jobs if job not in taken)
            catalog = self._catalogs[module] = Catalog(
                kept, (CatalogFailure(module, reason), *catalog.failures)
            )
        reason = catalog.failures[0].reason if catalog.failures else ""
        new = assign(Catalog(catalog.jobs, catalog.failures if reason != told else ()), self._settings)
        if new:
            self._assignments.update(new)
            emit(Events.JOBS_LOADED_LATE, module=module, jobs=",".join(new))
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
        return reason

    def _failures_of(self, module: str) -> Sequence[CatalogFailure]:
        if module in self._catalogs:
            return self._catalogs[module].failures
        limit = format_duration(self._timeout_s)
        return [CatalogFailure(module, f"it is still being imported, for {limit} at most")]
