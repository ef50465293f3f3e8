"""``leaderjob settings``: what is in force, where it was set, and no secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from leaderjob.cli.replica_options import flag_names
from leaderjob.cli.run import run
from leaderjob.cli.settings import settings
from leaderjob.embedded.running import announced
from tests.support.commands import said
from tests.support.settings import leave_alone

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_alone(tmp_path, monkeypatch)


def shown(*arguments: str) -> dict[str, dict[str, Any]]:
    done = said(["settings", "--json", *arguments])
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_each_value_is_shown_with_the_file_the_variable_or_the_flag_that_set_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("leaderjob.toml").write_text(
        'jobs = ["jobs.one"]\n[election]\nttl = 30\n[overrides.one]\ntimeout = "5m"'
    )
    monkeypatch.setenv("LEADERJOB_ETCD_NAMESPACE", "prod")
    found = shown("--ttl", "20s", "--insecure")
    assert found["jobs"] == {
        "value": ["jobs.one"],
        "from": "file",
        "name": str(tmp_path / "leaderjob.toml"),
    }
    assert found["overrides.one.timeout"]["value"] == 300
    assert found["etcd.namespace"] == {
        "value": "prod",
        "from": "variable",
        "name": "LEADERJOB_ETCD_NAMESPACE",
    }
    assert found["election.ttl"] == {"value": 20, "from": "flag", "name": "--ttl"}
    assert found["replica.insecure"] == {"value": True, "from": "flag", "name": "--insecure"}
    assert found["election.margin"] == {"value": 2, "from": "default", "name": None}


def test_it_takes_the_options_of_run_and_each_sets_its_setting() -> None:
    assert flag_names(run) == flag_names(settings)
    assert {parameter.name for parameter in settings.params} - {
        parameter.name for parameter in run.params
    } == {"as_json"}
    values = {
        "replica.id": "r7",
        "etcd.endpoints": "a:1",
        "etcd.namespace": "n",
        "jobs": "jobs.one",
        "election.ttl": "25s",
        "replica.state_dir": "/s",
        "replica.listen": "127.0.0.1:7070",
        "replica.advertise": "r7:7070",
    }
    flags = flag_names(run)
    arguments = [part for setting, value in values.items() for part in (flags[setting], value)]
    found = shown(*arguments)
    assert {found[setting]["name"] for setting in values} == {flags[setting] for setting in values}
    assert {setting: found[setting]["value"] for setting in values} == values | {
        "etcd.endpoints": ["a:1"],
        "jobs": ["jobs.one"],
        "election.ttl": 25,
    }


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_USERNAME", "root")
    monkeypatch.setenv("LEADERJOB_ETCD_PASSWORD", SECRET)
    monkeypatch.setenv("LEADERJOB_SENTRY_DSN", f"https://{SECRET}@sentry.example.com/7")
    done = said(["settings", *form])
    assert done.returncode == 0
    assert SECRET not in done.stdout + done.stderr
    assert done.stdout.count("********") == 2
    assert "LEADERJOB_ETCD_PASSWORD" in done.stdout


def test_the_file_that_holds_a_secret_is_shown_and_not_what_is_in_it() -> None:
    Path("password").write_text(SECRET)
    Path("leaderjob.toml").write_text('[etcd]\nusername = "root"\npassword_file = "password"\n')
    found = shown()
    assert found["etcd.password_file"]["value"] == "password"
    assert found["etcd.password"]["value"] is None
    assert SECRET not in json.dumps(found)


def test_a_pipe_gets_an_aligned_table_without_colours_and_with_each_value_as_it_is() -> None:
    state_dir = "/srv/[bold]:smile:/" + "x" * 120
    lines = said(["settings", "--state-dir", state_dir, "--ttl", "90s"]).stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "FROM"]
    rows = {line.split()[0]: line for line in lines}
    assert rows["replica.state_dir"].split() == ["replica.state_dir", state_dir, "flag", "--state-dir"]
    assert rows["election.ttl"].split() == ["election.ttl", "90s", "flag", "--ttl"]
    assert rows["replica.insecure"].split() == ["replica.insecure", "false", "default"]
    origin_at = lines[0].index("FROM")
    assert {line[origin_at - 1] for line in lines} == {" "}
    assert " " not in {line[origin_at] for line in lines}
    assert not any("\x1b" in line for line in lines)


def test_without_any_etcd_that_of_a_running_demo_is_shown_as_such(tmp_path: Path) -> None:
    with announced(["127.0.0.1:9"], "demo"):
        found = shown()
        assert found["etcd.endpoints"] == {
            "value": ["127.0.0.1:9"],
            "from": "the running demo",
            "name": None,
        }
        assert found["etcd.namespace"]["from"] == "the running demo"
        assert shown("--namespace", "mine")["etcd.namespace"]["name"] == "--namespace"
        assert shown("--etcd", "a:1")["etcd.endpoints"]["value"] == ["a:1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ttl", "soon"], "'soon' is not a duration"),
        (["--etcd", "a:1", "--namespace", "No/Good"], "'No/Good' is not a name"),
        (["--config", "missing.toml"], "missing.toml does not exist"),
    ],
)
def test_bad_settings_are_told_as_run_tells_them(arguments: list[str], sentence: str) -> None:
    done = said(["settings", *arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr == said(["run", *arguments]).stderr
