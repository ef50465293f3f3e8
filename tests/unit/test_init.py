"""``leaderjob init``: what is written, and that nothing is written over."""

import re
import tomllib
from pathlib import Path

import pytest

from leaderjob.cli.init import settings_file
from leaderjob.settings import Settings, load_settings, override_table, tables
from tests.support.commands import said
from tests.support.settings import file, leave_alone


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_alone(tmp_path, monkeypatch)


def uncommented(text: str, *, examples: bool) -> str:
    """The settings file with what it has in comments, but for prose, and for examples unless wanted."""
    lines = [line for line in text.splitlines() if examples or not line.endswith("# for example")]
    return "\n".join(re.sub(r"^#(?=[\w\[])", "", line) for line in lines)


def test_it_writes_settings_and_a_job_and_says_what_to_do_next() -> None:
    done = said(["init", "my jobs"])
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "cd 'my jobs' && leaderjob run --id r1",
        "cd 'my jobs' && leaderjob trigger hello --wait",
    ]
    written = {str(path) for path in Path("my jobs").rglob("*") if path.is_file()}
    assert written == {
        "my jobs/leaderjob.toml",
        "my jobs/jobs/hello.py",
        "my jobs/jobs/__init__.py",
    }
    for path in written:
        assert f"wrote {path}" in done.stderr


def test_without_a_folder_it_writes_here() -> None:
    assert said(["init"]).stdout.splitlines() == ["leaderjob run --id r1", "leaderjob trigger hello --wait"]
    settings = load_settings(None, {})
    assert settings.jobs == ("jobs.hello",)
    assert settings.etcd.endpoints == ("127.0.0.1:2379",)


def test_the_settings_that_are_written_change_no_default() -> None:
    written = load_settings(file(settings_file()), {})
    necessary = {"jobs": written.jobs, "etcd": {"endpoints": written.etcd.endpoints}}
    assert written.model_dump() == Settings(**necessary).model_dump()


def test_the_defaults_in_comments_are_the_defaults() -> None:
    text = settings_file()
    everything = load_settings(file(uncommented(text, examples=False)), {})
    assert everything.model_dump(exclude={"overrides"}) == load_settings(file(text), {}).model_dump(
        exclude={"overrides"}
    )


def test_each_setting_is_there_once_with_its_meaning_before_it() -> None:
    text = settings_file()
    found = tomllib.loads(uncommented(text, examples=True))
    for table in tables():
        wanted = {setting.name for setting in table.settings}
        if table.name:
            assert found[table.name].keys() == wanted
        else:
            assert found.keys() >= wanted
    assert found["overrides"]["hello"].keys() == {setting.name for setting in override_table().settings}
    prose = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for table in (*tables(), override_table()):
        for setting in table.settings:
            assert setting.path == "overrides" or setting.meaning
            assert setting.path == "overrides" or f"{setting.meaning} " in prose


def test_each_example_is_a_value_that_its_setting_takes() -> None:
    found = tomllib.loads(uncommented(settings_file(), examples=True))
    # What names a file needs one, and a secret is given once.
    for group, name in [
        *(("etcd", name) for name in ("ca", "cert", "key", "password_file")),
        *(("tls", name) for name in ("ca", "cert", "key")),
        ("sentry", "dsn_file"),
    ]:
        assert Path(found[group].pop(name)).is_absolute()
    assert Settings(**found).overrides["hello"].params == {"name": "you"}


@pytest.mark.parametrize("there", ["leaderjob.toml", "jobs/hello.py"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_nothing_that_exists_is_overwritten_and_then_nothing_is_written(
    tmp_path: Path, there: str, kind: str
) -> None:
    (tmp_path / "jobs").mkdir()
    if kind == "file":
        (tmp_path / there).write_text("mine")
    else:
        (tmp_path / there).symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    done = said(["init"])
    assert (done.returncode, done.stdout) == (2, "")
    assert f"leaderjob: {there} exists already, and nothing was written" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    if kind == "file":
        assert (tmp_path / there).read_text() == "mine"


def test_jobs_that_are_there_are_joined() -> None:
    Path("jobs").mkdir()
    Path("jobs/__init__.py").write_text("# mine\n")
    Path("jobs/other.py").write_text("")
    assert said(["init"]).returncode == 0
    assert Path("jobs/__init__.py").read_text() == "# mine\n"
    assert Path("jobs/hello.py").exists()


def test_a_folder_that_cannot_be_written_is_named() -> None:
    Path("taken").write_text("")
    done = said(["init", "taken"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "taken cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
