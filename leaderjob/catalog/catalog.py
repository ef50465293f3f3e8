"""All jobs of a replica: describes each module in a child process, side by side."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from leaderjob.catalog.describe import DOCUMENT_LIMIT_BYTES
from leaderjob.catalog.description import JobDescription, validate
from leaderjob.durations import format_duration
from leaderjob.errors import SettingsError
from leaderjob.json_text import InvalidJson, decode
from leaderjob.modules import environment_for_children
from leaderjob.sdk import Json
from leaderjob.telemetry.trace import Trace

AT_ONCE = 4
COMPLAINT_LIMIT_BYTES = 8192


@dataclass(frozen=True, slots=True)
class CatalogFailure:
    """A module, or one job of it, that cannot be used.

    :param reason: a sentence that says why.
    :param traceback: of the module's own code, which is a :class:`Trace`; or what it wrote before it died.
    """

    module: str
    reason: str
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """The jobs that can be used, in the order of the settings, and what cannot."""

    jobs: tuple[JobDescription, ...]
    failures: tuple[CatalogFailure, ...]

    def find(self, job: str) -> JobDescription | None:
        return next((description for description in self.jobs if description.spec.name == job), None)


async def describe(modules: Sequence[str], *, cwd: Path, timeout_s: float = 30.0) -> Catalog:
    """Import each of ``modules`` in a child process and describe the jobs that it defines.

    A module that cannot be used is among the failures, the others are not affected.

    :param cwd: where modules are looked for first.
    :param timeout_s: how long one module may take.
    :raises SettingsError: two jobs have one name.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def describe_one(module: str) -> dict[str, Json] | CatalogFailure:
        async with slots:
            return await _ask_child(module, cwd, timeout_s)

    unique = list(dict.fromkeys(modules))
    async with asyncio.TaskGroup() as group:
        children = [group.create_task(describe_one(module)) for module in unique]
    jobs: list[JobDescription] = []
    failures: list[CatalogFailure] = []
    for module, child in zip(unique, children, strict=True):
        described = child.result()
        if isinstance(described, CatalogFailure):
            failures.append(described)
            continue
        for raw in described["jobs"]:
            try:
                jobs.append(validate(module, raw))
            except SettingsError as error:
                failures.append(CatalogFailure(module, str(error)))
    refuse_namesakes(jobs)
    return Catalog(tuple(jobs), tuple(failures))


def refuse_namesakes(jobs: Sequence[JobDescription]) -> None:
    """:raises SettingsError: two jobs have one name."""
    seen: dict[str, JobDescription] = {}
    for job in jobs:
        other = seen.setdefault(job.spec.name, job)
        if other is not job:
            where = (
                f"{other.module!r} and {job.module!r}" if other.module != job.module else f"{job.module!r}"
            )
            raise SettingsError(
                f"two jobs are called {job.spec.name!r}, in {where}: rename one with @job(name=…)"
            )


async def _ask_child(module: str, cwd: Path, timeout_s: float) -> dict[str, Json] | CatalogFailure:
    # Files, because a pipe would stay open in whatever the module starts, and would have to be read; in memory,
    # because there may be no directory for temporary files.
    with _memory_file("complaints") as complaints, _memory_file("document") as document:
        try:
            status = await _run_child(module, cwd, timeout_s, document, complaints)
        except TimeoutError:
            reason = f"it was not imported after {format_duration(timeout_s)}: importing a module should do nothing"
            return CatalogFailure(module, reason, _tail(complaints))
        except OSError as error:
            return CatalogFailure(module, f"no process could be started to import it: {error}")
        document.seek(0)
        text = document.read()
        if status != 0 or not text:
            reason = f"its import ended the process, with status {status}"
            return CatalogFailure(module, reason, _tail(complaints))
    try:
        return _read_document(module, decode(text, DOCUMENT_LIMIT_BYTES))
    except (InvalidJson, KeyError, TypeError) as error:
        return CatalogFailure(module, f"its import disturbed the process that describes its jobs: {error}")


def _memory_file(name: str) -> IO[bytes]:
    return os.fdopen(os.memfd_create(name), "w+b")


def _read_document(module: str, document: dict[str, Json]) -> dict[str, Json] | CatalogFailure:
    if "missing" in document:
        return CatalogFailure(module, document["missing"])
    if "reason" in document:
        trace = Trace.told(document["traceback"], document["exceptions"])
        return CatalogFailure(module, f"it cannot be imported: {document['reason']}", trace)
    if not document["jobs"]:
        reason = "it defines no job: decorate a function with @job, or take it out of the setting 'jobs'"
        return CatalogFailure(module, reason)
    return document


async def _run_child(
    module: str, cwd: Path, timeout_s: float, document: IO[bytes], complaints: IO[bytes]
) -> int:
    """Its exit status. :raises TimeoutError: it took too long, and was killed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "leaderjob.catalog.describe",
        module,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=document,
        stderr=complaints,
        cwd=cwd,
        env=environment_for_children(os.environ),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            return await child.wait()
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its own session, with what the import has started
            await child.wait()


def _tail(complaints: IO[bytes]) -> str | None:
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, size - COMPLAINT_LIMIT_BYTES))
    return complaints.read().decode(errors="replace").strip() or None
