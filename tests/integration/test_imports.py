"""Modules that fail or hang when they are imported: tried again, and in nobody's way."""

import signal
import urllib.request
from pathlib import Path

import pytest

from leaderjob import importing
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import SettingsError
from leaderjob.importing import Imports
from leaderjob.records.view import View
from leaderjob.settings import load_settings
from tests.support.replicas import Cluster, gone_within, leads, told, wait_for

_GOOD = """
from leaderjob import JobContext, job

@job(name="NAME")
def work(ctx: JobContext) -> None:
    pass
"""
_HANGS = """
import os, pathlib, time
pathlib.Path("importing").write_text(str(os.getpid()))
while not pathlib.Path("mended").exists():
    time.sleep(0.05)
"""
_FAILS = """
import pathlib
if not pathlib.Path("mended").exists():
    raise RuntimeError("its database does not answer")
"""


def write(directory: Path, module: str, before: str = "", job: str = "") -> None:
    (directory / f"{module}.py").write_text(before + _GOOD.replace("NAME", job or module))


def imports(directory: Path, *modules: str, timeout_s: float = 30.0) -> Imports:
    settings = load_settings(None, {"jobs": modules, "execution": {"import_timeout": timeout_s}})
    return Imports(settings, cwd=directory)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No long pauses."""
    monkeypatch.setattr(importing, "FIRST_LOOK_S", 0.2)
    monkeypatch.setattr(importing, "FIRST_PAUSE_S", 0.05)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("before", [_HANGS, _FAILS])
async def test_module_that_fails_or_hangs_is_imported_again(before: str, tmp_path: Path) -> None:
    write(tmp_path, "bad", before)
    async with imports(tmp_path, "bad", timeout_s=2.0) as jobs:
        await jobs.first_look()
        assert not jobs.assignments
        assert [failure.module for failure in jobs.unloaded] == ["bad"]
        await jobs._tried["bad"].wait()
        assert "imported" in jobs.unloaded[0].reason
        (tmp_path / "mended").touch()
        await jobs.until_more(())
        assert list(jobs.assignments) == ["bad"]
        assert jobs.find("bad") is not None
        assert not jobs.unloaded


@pytest.mark.usefixtures("quick")
async def test_modules_that_hang_do_not_keep_the_others_from_their_turn(tmp_path: Path) -> None:
    hanging = [f"hangs{number}" for number in range(2 * importing.AT_ONCE)]
    for module in hanging:
        write(tmp_path, module, _HANGS)
    write(tmp_path, "good")
    async with imports(tmp_path, *hanging, "good", timeout_s=1000.0) as jobs:
        await jobs._tried["good"].wait()
        await jobs.first_look()
        assert list(jobs.assignments) == ["good"]
        assert [failure.module for failure in jobs.unloaded] == hanging
    assert gone_within(int((tmp_path / "importing").read_text()), 5.0)


@pytest.mark.usefixtures("quick")
async def test_job_that_comes_late_does_not_take_the_name_of_another(tmp_path: Path) -> None:
    write(tmp_path, "late", _HANGS, job="same")
    write(tmp_path, "first", job="same")
    async with imports(tmp_path, "late", "first") as jobs:
        await jobs._tried["first"].wait()
        await jobs.first_look()
        (tmp_path / "mended").touch()
        await jobs._tried["late"].wait()
        assert jobs.assignments["same"].spec.reference == "first:same"
        assert [failure.module for failure in jobs.unloaded] == ["late"]


async def test_two_jobs_of_one_name_are_refused_at_the_start(tmp_path: Path) -> None:
    write(tmp_path, "one", job="same")
    write(tmp_path, "two", job="same")
    async with imports(tmp_path, "one", "two") as jobs:
        for tried in jobs._tried.values():
            await tried.wait()
        with pytest.raises(SettingsError, match="two jobs are called 'same'"):
            await jobs.first_look()


def not_loaded(cluster: Cluster, view: View) -> float:
    address = view.members["r1"].record.addresses["http"]
    with urllib.request.urlopen(f"http://{address}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("leaderjob_modules_not_loaded "))


def test_replica_runs_what_it_has_and_takes_up_the_rest_in_the_same_term(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    write(tmp_path, "good")
    write(tmp_path, "hangs", _HANGS)
    write(tmp_path, "fails", _FAILS)
    with (
        Cluster(etcd.endpoint, namespace, tmp_path, jobs="hangs,good,fails", names=("r1",)) as cluster,
        told(cluster),
    ):
        cluster["r1"].settings["LEADERJOB_EXECUTION_IMPORT_TIMEOUT"] = "1000s"
        cluster.start()
        assert cluster["r1"].jobs() == {"good"}
        assert cluster.ended("good", cluster.trigger("good")).outcome == "succeeded"
        before = cluster.view()
        assert not_loaded(cluster, before) == 2
        importer = int(wait_for(tmp_path / "importing"))
        (tmp_path / "mended").touch()
        after = cluster.until(
            "all jobs are in force",
            lambda view: view.specs.keys() == {"good", "hangs", "fails"},
            timeout_s=45.0,
        )
        for job in ("hangs", "fails"):
            assert cluster.ended(job, cluster.trigger(job)).outcome == "succeeded"
        assert not_loaded(cluster, after) == 0
        assert leads(after) == leads(before)
        assert "term_ended" not in cluster["r1"].log()
        assert gone_within(importer, 5.0)
        cluster["r1"].send(signal.SIGTERM)
        assert cluster["r1"].process.wait(15.0) == 0
