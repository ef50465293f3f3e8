"""How a reference such as ``jobs.search_index:search_index`` becomes code. Used in child processes only:
a replica never imports a job's module.

A module is looked for in the current directory, then on the path; ``jobs.X`` that is in neither is the
one that comes with leaderjob: ``leaderjob.bundled.X`` in an installed package, the folder ``jobs``
beside the package in a source checkout.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType

from leaderjob.errors import SettingsError, printable
from leaderjob.sdk import Job, Json
from leaderjob.telemetry.raised import describe, message_of

BUNDLED = "leaderjob.bundled"
TRACEBACK_LIMIT_CHARS = 32_768

_PACKAGE = Path(__file__).parent


class ModuleMissing(SettingsError):
    """A job module was not found; its own import did not even begin."""


class NoSuchJob(SettingsError):
    """The module was imported, but it defines no job of that name."""


def load_jobs(module: str) -> list[Job]:
    """The jobs that ``module`` defines, in the order of their definition; those it imports do not count.

    :raises ModuleMissing: there is no such module.
    :raises Exception: whatever the module's own code raises while it is imported.
    """
    loaded = _import(module)
    found: dict[int, Job] = {}
    for value in vars(loaded).values():
        # Not isinstance(): a lazy object may run its own code to say what it is.
        if issubclass(type(value), Job) and loaded.__name__ in value.defined_in:
            found.setdefault(id(value), value)
    return list(found.values())


def load_job(reference: str) -> Job:
    """The job that ``MODULE:NAME`` stands for.

    :raises ModuleMissing: there is no such module.
    :raises NoSuchJob: the module defines no job of that name.
    """
    module, _, name = reference.partition(":")
    if not name:
        raise SettingsError(f"{reference!r} names a module but no job: write it as MODULE:JOB")
    jobs = {job.options.name: job for job in load_jobs(module)}
    if name not in jobs:
        import difflib  # noqa: PLC0415 - each worker would pay for it, and few have it to tell

        near = difflib.get_close_matches(name, jobs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it defines {', '.join(sorted(jobs)) or 'no job'}"
        raise NoSuchJob(f"module {module!r} defines no job {name!r}: {hint}")
    return jobs[name]


def program_arguments(reference: str) -> list[str]:
    """``sys.argv`` as ``python FILE`` would show it to the module: no arguments.

    :raises ModuleMissing: there is no such module.
    """
    name = _locate(reference.partition(":")[0])
    spec = sys.modules[name].__spec__ if name in sys.modules else importlib.util.find_spec(name)
    return [(spec and spec.origin) or name]


def own_trace(error: BaseException) -> dict[str, Json]:
    """What the author's code raised, as :meth:`Trace.told` reads it: ``traceback``, which is a text of at most
    32 Ki characters, and ``exceptions``. Both begin at the first frame of the author's code."""
    try:
        frames = _own_frames(error)
        return {"traceback": _text(error, frames), "exceptions": describe(error, frames)}
    except BaseException as problem:  # noqa: BLE001 - exceptions are classes of the author's, and may do anything
        return {"traceback": f"(the traceback cannot be shown: {message_of(problem)})", "exceptions": []}


def _text(error: BaseException, frames: TracebackType | None) -> str:
    text = printable("".join(traceback.format_exception(type(error), error, frames)))
    return text if len(text) <= TRACEBACK_LIMIT_CHARS else "…" + text[-TRACEBACK_LIMIT_CHARS:]


def _own_frames(error: BaseException) -> TracebackType | None:
    """None: there is no frame of the author's code."""
    frame = error.__traceback__
    while frame is not None and _is_machinery(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame


def current_directory() -> Path:
    """Where modules are looked for first. :raises SettingsError: it was removed, or may not be entered."""
    try:
        return Path.cwd()
    except OSError as error:
        raise SettingsError(
            f"the current directory cannot be used: {error.strerror}. Job modules are looked for there: change to one that exists"
        ) from error


def environment_for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment``, made so that a child Python with any current directory can import leaderjob.

    Our own settings stay behind, passwords among them: they are none of a job's business.
    """
    child = {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith("LEADERJOB_") or name.startswith("LEADERJOB_RUN_")
    }
    root = _PACKAGE.parent
    # Putting site-packages on PYTHONPATH would let what is installed there shadow the standard library.
    if root.name not in ("site-packages", "dist-packages"):
        paths = [path for path in child.get("PYTHONPATH", "").split(os.pathsep) if path]
        child["PYTHONPATH"] = os.pathsep.join([*(path for path in paths if path != str(root)), str(root)])
    return child


def _import(module: str) -> ModuleType:
    return importlib.import_module(_locate(module))


def _locate(module: str) -> str:
    """The name under which ``module`` can be imported. :raises ModuleMissing: there is none."""
    if not all(part.isidentifier() for part in module.split(".")):
        raise ModuleMissing(
            f"{module!r} is not a module's name: write it with dots, like 'jobs.search_index'"
        )
    current = str(Path.cwd())
    if sys.path[:1] != [current]:
        sys.path.insert(0, current)
    if _exists(module):
        return module
    searched = f"{current} or on the path"
    if module.startswith("jobs."):
        bundled = BUNDLED + module.removeprefix("jobs")
        if _bundle_exists() and _exists(bundled):
            return bundled
        searched = f"{current}, on the path or among the jobs that come with leaderjob"
    raise ModuleMissing(f"there is no module {module!r} in {searched}: check the setting 'jobs'")


def _exists(module: str) -> bool:
    """Whether ``module`` can be found. Its parents are imported, and what they raise is not caught: a
    module whose own import fails must not be taken for one that is missing."""
    parent = module.rpartition(".")[0]
    if parent and not (_exists(parent) and hasattr(importlib.import_module(parent), "__path__")):
        return False
    return module in sys.modules or importlib.util.find_spec(module) is not None


def _bundle_exists() -> bool:
    """Whether ``leaderjob.bundled`` can be imported; in a source checkout it is made from ``jobs/``."""
    if _exists(BUNDLED):
        return True
    folder = _PACKAGE.parent / "jobs"
    if not folder.is_dir():
        return False
    initial = folder / "__init__.py"
    spec: ModuleSpec | None
    if initial.is_file():
        spec = importlib.util.spec_from_file_location(
            BUNDLED, initial, submodule_search_locations=[str(folder)]
        )
    else:
        spec = ModuleSpec(BUNDLED, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    if spec is None:
        return False
    bundle = importlib.util.module_from_spec(spec)
    sys.modules[BUNDLED] = bundle
    if spec.loader is not None:
        spec.loader.exec_module(bundle)
    return True


def _is_machinery(filename: str) -> bool:
    """Whether a frame belongs to leaderjob, the import system or asyncio, and not to an author's code."""
    path = Path(filename)
    if path.is_relative_to(_PACKAGE):
        return not path.is_relative_to(_PACKAGE / "bundled")
    machinery = (Path(importlib.__file__).parent, Path(os.__file__).parent / "asyncio")
    return filename.startswith("<frozen ") or any(path.is_relative_to(folder) for folder in machinery)
