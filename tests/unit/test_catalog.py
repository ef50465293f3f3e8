"""Describing job modules: what is found, what is refused, and that one bad module spoils no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from leaderjob.catalog.catalog import Catalog, CatalogFailure, describe
from leaderjob.catalog.description import JobDescription
from leaderjob.errors import SettingsError
from leaderjob.model.job import OnLeaderLoss, Overlap, Parameter, Policy
from leaderjob.model.params import check_params
from leaderjob.telemetry.trace import Trace
from tests.support import marked
from tests.support.loop import run_async


def described(cwd: Path, modules: Sequence[str] = ("mine",), timeout_s: float = 30.0) -> Catalog:
    return run_async(describe(modules, cwd=cwd, timeout_s=timeout_s))


def write(tmp_path: Path, text: str, module: str = "mine") -> None:
    (tmp_path / f"{module}.py").write_text("from leaderjob import job, JobContext\n" + text)


def only_failure(catalog: Catalog) -> CatalogFailure:
    assert catalog.jobs == ()
    (failure,) = catalog.failures
    return failure


def one_job(tmp_path: Path, text: str) -> JobDescription:
    write(tmp_path, text)
    catalog = described(tmp_path)
    assert catalog.failures == ()
    (job,) = catalog.jobs
    return job


def test_a_job_is_described_with_its_validated_options(tmp_path: Path) -> None:
    job = one_job(
        tmp_path,
        """
@job(name="index", schedule=["@daily", "every 90s"], time_zone="Europe/Berlin", timeout="1h30m", retries=2,
     misfire_grace=0, on_leader_loss="abandon", max_leader_losses=0)
def build(ctx: JobContext) -> None:
    "Builds it.\\n\\nAt length."
@build.query
def opened(directory): ...
""",
    )
    assert job.spec.name == "index"
    assert job.spec.reference == "mine:index"
    assert job.spec.description == "Builds it."
    assert job.spec.schedule == ("@daily", "every 90s")
    assert job.spec.time_zone == "Europe/Berlin"
    assert job.spec.has_query
    assert job.spec.policy == Policy(
        timeout_s=5400,
        overlap=Overlap.FORBID,
        misfire_grace_s=0,
        retries=2,
        on_leader_loss=OnLeaderLoss.ABANDON,
        max_leader_losses=0,
    )
    assert (job.module, job.file) == ("mine", str(tmp_path / "mine.py"))


def test_a_parameter_without_a_default_is_required_and_types_are_named(tmp_path: Path) -> None:
    job = one_job(
        tmp_path,
        """
from pathlib import Path
from typing import Optional
@job
def build(ctx, corpus: str, size: int = 3, *, ratio: float = 0.5, deep: bool = False, names: list[str] = [],
          options: dict[str, int] = {}, label: str | None = None, old: Optional[int] = 1, either: int | str = 1,
          folder: Path = Path("x"), bare=None): ...
""",
    )
    assert job.spec.parameters == (
        Parameter("corpus", "str", False, True),
        Parameter("size", "int", False, False),
        Parameter("ratio", "float", False, False),
        Parameter("deep", "bool", False, False),
        Parameter("names", "list", False, False),
        Parameter("options", "dict", False, False),
        Parameter("label", "str", True, False),
        Parameter("old", "int", True, False),
        Parameter("either", "any", False, False),
        Parameter("folder", "any", False, False),
        Parameter("bare", "any", True, False),
    )
    assert not job.spec.open_params


def test_annotations_that_only_a_type_checker_resolves_do_not_hide_the_plain_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from typing import TYPE_CHECKING\n"
        "from leaderjob import job\n"
        "if TYPE_CHECKING:\n    from leaderjob import JobContext\n"
        "@job\ndef build(ctx: JobContext, size: int, tags: list[str] | None = None, **more: str): ...\n"
    )
    (job,) = described(tmp_path).jobs
    assert job.spec.parameters == (
        Parameter("size", "int", False, True),
        Parameter("tags", "list", True, False),
    )
    assert job.spec.open_params


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@job(timeout='soon')\ndef build(ctx): ...", "job 'build': timeout: 'soon' is not a duration"),
        ("@job(timeout=0)\ndef build(ctx): ...", "job 'build': timeout has to be longer than 0 seconds"),
        ("@job(misfire_grace=-1)\ndef build(ctx): ...", "job 'build': misfire_grace"),
        (
            "@job(overlap='allowed')\ndef build(ctx): ...",
            "overlap is 'allowed'; it has to be one of 'forbid'",
        ),
        ("@job(on_leader_loss='x')\ndef build(ctx): ...", "it has to be one of 'restart', 'abandon'"),
        ("@job(retries=-1)\ndef build(ctx): ...", "retries is -1"),
        ("@job(retries=True)\ndef build(ctx): ...", "retries is True"),
        ("@job(max_leader_losses='3')\ndef build(ctx): ...", "max_leader_losses is '3'"),
        ("@job(schedule=5)\ndef build(ctx): ...", "schedule is 5"),
        ("@job(schedule=['@daily', 5])\ndef build(ctx): ...", "it has to be a string or a list of strings"),
        ("@job(name='a/b')\ndef build(ctx): ...", "job 'a/b' is not a valid name"),
        ("@job\ndef Build(ctx): ...", "job 'Build' is not a valid name"),
        ("@job\ndef build(): ...", "takes no JobContext"),
        ("@job\ndef build(*, ctx): ...", "takes no JobContext"),
        ("@job\ndef build(ctx, size, /): ...", "'size' is positional-only"),
    ],
)
def test_a_wrong_option_is_named_and_spoils_only_its_job(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path, text + "\n@job\ndef fine(ctx): ...\n")
    catalog = described(tmp_path)
    assert [job.spec.name for job in catalog.jobs] == ["fine"]
    (failure,) = catalog.failures
    assert failure.module == "mine"
    assert reason in failure.reason


def test_a_module_that_does_not_import_is_named_with_its_traceback_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    write(tmp_path, "def deep(): 1 / 0\ndeep()\n", "bad")
    write(tmp_path, "def broken(:\n", "worse")
    write(tmp_path, "@job\ndef good(ctx): ...\n", "good")
    catalog = described(tmp_path, ["bad", "nowhere", "good", "worse"])
    assert [job.spec.name for job in catalog.jobs] == ["good"]
    bad, nowhere, worse = catalog.failures
    assert (bad.module, bad.reason) == ("bad", "it cannot be imported: ZeroDivisionError: division by zero")
    assert bad.traceback is not None
    assert bad.traceback.splitlines()[1] == f'  File "{tmp_path / "bad.py"}", line 3, in <module>'
    assert "in deep" in bad.traceback
    assert isinstance(bad.traceback, Trace)
    (raised,) = bad.traceback.exceptions
    assert (raised.type, [frame.function for frame in raised.frames]) == (
        "ZeroDivisionError",
        ["<module>", "deep"],
    )
    assert "there is no module 'nowhere'" in nowhere.reason
    assert "SyntaxError" in worse.reason


def test_what_a_module_prints_does_not_spoil_its_description(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
import os, subprocess
print("{}" * 100_000)
os.write(1, b"garbage")
subprocess.run(["echo", "more"])
@job
def good(ctx): ...
""",
    )
    assert [job.spec.name for job in described(tmp_path).jobs] == ["good"]


@pytest.mark.parametrize(
    ("text", "reason", "complaint"),
    [
        ("raise SystemExit(0)", "it cannot be imported: SystemExit: 0", "raise SystemExit(0)"),
        (
            "import os, sys\nsys.stderr.write('goodbye')\nsys.stderr.flush()\nos._exit(0)",
            "status 0",
            "goodbye",
        ),
        ("import ctypes\nctypes.string_at(0)", "status -11", None),
    ],
)
def test_an_import_that_ends_the_process_is_a_failure(
    tmp_path: Path, text: str, reason: str, complaint: str | None
) -> None:
    write(tmp_path, text)
    failure = only_failure(described(tmp_path))
    assert reason in failure.reason
    assert complaint is None or complaint in (failure.traceback or "")


def test_an_import_that_hangs_is_a_failure_and_is_killed_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = marked.put_mark(monkeypatch)
    write(tmp_path, "import subprocess, time\nsubprocess.Popen(['sleep', '1000'])\ntime.sleep(1000)")
    assert "not imported after 1s" in only_failure(described(tmp_path, timeout_s=1.0)).reason
    assert marked.left_after(mark, within_s=5) == []


def test_a_module_without_jobs_is_a_failure_that_says_so(tmp_path: Path) -> None:
    write(tmp_path, "")
    assert "it defines no job" in only_failure(described(tmp_path)).reason


def test_two_jobs_with_one_name_are_refused_with_both_modules(tmp_path: Path) -> None:
    write(tmp_path, "@job\ndef same(ctx): ...\n", "one")
    write(tmp_path, "@job(name='same')\ndef other(ctx): ...\n", "two")
    with pytest.raises(SettingsError, match=r"two jobs are called 'same', in 'one' and 'two'"):
        described(tmp_path, ["one", "two"])


def test_a_module_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "@job\ndef good(ctx): ...\n")
    assert len(described(tmp_path, ["mine", "mine"]).jobs) == 1


def test_a_job_is_found_by_name(tmp_path: Path) -> None:
    write(tmp_path, "@job\ndef good(ctx): ...\n")
    catalog = described(tmp_path)
    assert catalog.find("good") is catalog.jobs[0]
    assert catalog.find("bad") is None


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> JobDescription:
    signature = (
        "ctx, corpus: str, size: int = 1, ratio: float = 1.0, deep: bool = False, label: str | None = None"
    )
    return one_job(
        tmp_path_factory.mktemp("typed"), f"@job\ndef build({signature}, tags: list = [], any_=0): ...\n"
    )


@pytest.mark.parametrize(
    "params",
    [
        {"corpus": "c"},
        {"corpus": "c", "size": 2, "ratio": 2, "deep": True, "label": None, "tags": [], "any_": {"x": 1}},
        {"corpus": "c", "ratio": 0.5, "label": "l", "any_": None},
    ],
)
def test_parameters_that_fit_are_accepted(typed: JobDescription, params: dict[str, Any]) -> None:
    check_params(typed.spec, params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "job 'build' needs the parameter 'corpus' (str)"),
        ({"corpus": "c", "sise": 1}, "no parameter 'sise': did you mean 'size'?"),
        ({"corpus": "c", "zzz": 1}, "no parameter 'zzz': it has any_, corpus, deep"),
        ({"corpus": 5}, "parameter 'corpus' is 5, of type int; it has to be of type str"),
        ({"corpus": None}, "has to be of type str"),
        ({"corpus": "c", "size": True}, "'size' is True, of type bool; it has to be of type int"),
        ({"corpus": "c", "size": 1.0}, "has to be of type int"),
        ({"corpus": "c", "ratio": True}, "has to be of type float"),
        ({"corpus": "c", "ratio": float("nan")}, "at ['ratio']: nan is not a finite number"),
        ({"corpus": "c", "deep": 1}, "has to be of type bool"),
        ({"corpus": "c", "label": 1}, "has to be of type str or null"),
        ({"corpus": "c", "tags": "a,b"}, "has to be of type list"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    typed: JobDescription, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_params(typed.spec, params)
    assert message in str(caught.value)
