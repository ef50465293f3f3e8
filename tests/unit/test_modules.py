"""Which module a reference stands for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import leaderjob
from leaderjob.modules import environment_for_children

JOB = "from leaderjob import job\n@job\ndef {name}(ctx): ...\n"


def ask(cwd: Path, expression: str, environment: dict[str, str] | None = None) -> Any:
    """The value of ``expression`` in a child process, or the name and text of what it raised."""
    code = f"""
import json, sys
from leaderjob import modules
try:
    print(json.dumps({expression}))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=environment_for_children(os.environ) if environment is None else environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(child.stdout)


def names(module: str) -> str:
    return f"[(job.options.name, job.__module__) for job in modules.load_jobs({module!r})]"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of what a child imports, laid out as a source checkout or a wheel is, with nothing else in
    sight; and the environment that makes it importable."""
    root = tmp_path / "root"
    parts = ("__init__.py", "version.py", "errors.py", "sdk.py", "modules.py", "json_text.py")
    for name in (*parts, "telemetry/__init__.py", "telemetry/raised.py"):
        write(root / "leaderjob" / name, (Path(leaderjob.__file__).parent / name).read_text())
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return root, {**clean, "PYTHONPATH": str(root)}


def test_the_current_directory_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "jobs" / "__init__.py", "")
    write(tmp_path / "jobs" / "search_index.py", JOB.format(name="mine"))
    assert ask(tmp_path, names("jobs.search_index")) == [["mine", "jobs.search_index"]]
    write(tmp_path / "json_of_mine.py", JOB.format(name="top"))
    assert ask(tmp_path, names("json_of_mine")) == [["top", "json_of_mine"]]


@pytest.mark.parametrize("is_package", [True, False])
@pytest.mark.parametrize("folder", ["jobs", "leaderjob/bundled"])
def test_jobs_that_come_with_leaderjob_are_found_last(
    tmp_path: Path, installed: tuple[Path, dict[str, str]], folder: str, is_package: bool
) -> None:
    root, environment = installed
    write(root / folder / "shared.py", "WORD = 'shared'\n")
    write(root / folder / "tidy.py", "from .shared import WORD\n" + JOB.format(name="tidy"))
    if is_package:
        write(root / folder / "__init__.py", "")
    # A package `jobs` of the user's own, which lacks the module, must not hide the bundled one.
    here = tmp_path / "here"
    write(here / "jobs" / "__init__.py", "")
    assert ask(here, names("jobs.tidy"), environment) == [["tidy", "leaderjob.bundled.tidy"]]
    write(here / "jobs" / "tidy.py", JOB.format(name="own"))
    assert ask(here, names("jobs.tidy"), environment) == [["own", "jobs.tidy"]]


def test_a_module_whose_import_fails_is_not_taken_for_a_missing_one(
    tmp_path: Path, installed: tuple[Path, dict[str, str]]
) -> None:
    root, environment = installed
    write(root / "jobs" / "tidy.py", JOB.format(name="tidy"))
    here = tmp_path / "here"
    write(here / "jobs" / "__init__.py", "")
    write(here / "jobs" / "tidy.py", "import jobs.nothing_of_this_name")
    kind, text = ask(here, names("jobs.tidy"), environment)
    assert (kind, text) == ("ModuleNotFoundError", "No module named 'jobs.nothing_of_this_name'")
    write(here / "jobs" / "__init__.py", "1 / 0")
    assert ask(here, names("jobs.tidy"), environment)[0] == "ZeroDivisionError"


@pytest.mark.parametrize(
    "module",
    ["nowhere", "jobs.nowhere", "nowhere.at.all", "json.nowhere", "jobs.x.y", "a b", "", "jobs/x.py"],
)
def test_a_missing_module_is_named(tmp_path: Path, module: str) -> None:
    kind, text = ask(tmp_path, names(module))
    assert kind == "ModuleMissing"
    assert repr(module) in text


def test_only_jobs_that_the_module_defines_count_and_each_once(tmp_path: Path) -> None:
    write(tmp_path / "one.py", JOB.format(name="first"))
    write(tmp_path / "two.py", "from one import first\n" + JOB.format(name="second") + "alias = second\n")
    assert ask(tmp_path, names("two")) == [["second", "two"]]


def test_a_job_is_found_by_its_name_and_not_by_its_function(tmp_path: Path) -> None:
    write(tmp_path / "one.py", "from leaderjob import job\n@job(name='nice-name')\ndef ugly(ctx): return 5\n")
    assert ask(tmp_path, "modules.load_job('one:nice-name')(None)") == 5
    kind, text = ask(tmp_path, "modules.load_job('one:nice-nam')(None)")
    assert kind == "NoSuchJob"
    assert "did you mean 'nice-name'?" in text
    assert ask(tmp_path, "modules.load_job('one:ugly')(None)")[0] == "NoSuchJob"
    assert ask(tmp_path, "modules.load_job('one')(None)")[0] == "SettingsError"


def test_children_find_leaderjob_and_keep_what_was_on_the_path() -> None:
    root = str(Path(leaderjob.__file__).parent.parent)
    environment = environment_for_children({"PYTHONPATH": f"/a{os.pathsep}{root}", "OTHER": "kept"})
    assert environment == {"PYTHONPATH": f"/a{os.pathsep}{root}", "OTHER": "kept"}
    assert environment_for_children({})["PYTHONPATH"] == root


def test_a_child_gets_none_of_our_settings() -> None:
    given = {"LEADERJOB_ETCD_PASSWORD": "secret", "leaderjob_sentry_dsn": "secret", "LEADERJOB_RUN_MARK": "m"}
    child = environment_for_children({**given, "PATH": "/bin"})
    assert child.keys() == {"LEADERJOB_RUN_MARK", "PATH", "PYTHONPATH"}
