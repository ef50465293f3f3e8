"""``leaderjob config``: overrides of jobs, by the command line."""

import json
import shlex
import sys

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.model.job import JobSpec
from leaderjob.records.keys import Keys
from tests.support.commands import Lines, Said, said
from tests.support.streams import run_with_streams


@pytest.fixture
def command(etcd: EmbeddedEtcd, namespace: str) -> "Command":
    async def announce() -> None:
        async with Etcd([etcd.endpoint]) as client:
            for job in ("search_index", "back.up"):
                spec = JobSpec(name=job, reference="m:f")
                await client.put(Keys(namespace).spec(job), spec.to_bytes())

    run_with_streams(announce())
    return Command(etcd.endpoint, namespace)


class Command:
    def __init__(self, endpoint: str, namespace: str) -> None:
        self.target = ["--etcd", endpoint, "--namespace", namespace]

    def __call__(self, line: str) -> Said:
        verb, *rest = shlex.split(line)
        return said(["config", verb, *rest, *self.target])


def test_a_value_is_set_shown_and_unset(command: Command) -> None:
    done = command("set jobs.search_index.schedule 'every 5m'")
    assert (done.returncode, done.stdout.split(" by ")[0]) == (
        0,
        "set jobs.search_index.schedule: done, as change 1",
    )
    assert command("get jobs.search_index.schedule").stdout == "every 5m\n"
    assert command("get jobs.search_index.schedule --json").stdout == '"every 5m"\n'
    assert command("""set 'jobs."back.up".enabled' false""").returncode == 0
    assert command("set jobs.search_index.params.corpus 5 --text").returncode == 0
    assert json.loads(command("get --json").stdout) == {
        "jobs": {
            "search_index": {"schedule": "every 5m", "params": {"corpus": "5"}},
            "back.up": {"enabled": False},
        }
    }
    assert 'jobs."back.up".enabled' in command("get").stdout
    assert command("unset jobs.search_index.schedule").returncode == 0
    nothing = command("get jobs.search_index.schedule")
    assert (nothing.returncode, nothing.stdout) == (4, "")
    assert command("unset jobs.search_index.schedule").returncode == 4


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ("set jobs.serach_index.schedule 'every 5m'", 4, "did you mean 'search_index'?"),
        ("""set jobs '{"zzz": {"enabled": false}}'""", 4, "known are back.up, search_index"),
        ("set jobs.search_index.schedule '61 * * * *'", 2, "minute field '61' is not in 0-59"),
        ("set jobs.search_index.shedule 'every 5m'", 2, "did you mean 'schedule'?"),
        ("set jobs.search_index.timeout 0", 2, "jobs.search_index.timeout"),
        ("set jobs.search_index.timeout soon", 2, "not a duration"),
        ("set jobs.search_index.enabled perhaps", 2, "boolean"),
        ("set job.search_index.enabled false", 2, "did you mean 'jobs'?"),
        ("set jobs..x 1", 2, "not a path"),
        ("set jobs.search_index", 2, "Missing argument"),
        ("rollback 7", 4, "no entry 7"),
        ("rollback -- -1", 2, ""),
        ("diff 3", 4, "no entry 3"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_and_changes_nothing(
    command: Command, line: str, code: int, reason: str
) -> None:
    refused = command(line)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr
    assert json.loads(command("get --json").stdout) == {}
    assert json.loads(command("history --json").stdout) == []


def test_where_no_job_is_known_yet_that_is_said(etcd: EmbeddedEtcd, namespace: str) -> None:
    refused = Command(etcd.endpoint, namespace)("set jobs.search_index.enabled false")
    assert (refused.returncode, "a leader announces its jobs" in refused.stderr) == (4, True)


def test_changes_are_listed_compared_and_rolled_back(command: Command) -> None:
    command("set jobs.search_index.timeout 10m")
    command("set jobs.search_index.timeout 20m")
    entries = json.loads(command("history --json").stdout)
    assert [(entry["number"], entry["what"]) for entry in entries] == [
        (1, "set jobs.search_index.timeout"),
        (2, "set jobs.search_index.timeout"),
    ]
    assert entries[1]["before"] == {"jobs": {"search_index": {"timeout": "10m"}}}
    assert "@" in entries[1]["by"]
    (change,) = json.loads(command("diff --json").stdout)
    assert (change["path"], change["before"], change["after"]) == ("jobs.search_index.timeout", "10m", "20m")
    assert "20m" in command("diff 0 2").stdout
    assert command("rollback 1").returncode == 0
    assert command("get jobs.search_index.timeout").stdout == "10m\n"
    assert "rollback to 1" in command("history").stdout


def test_whoever_watches_sees_each_change(command: Command) -> None:
    with Lines(sys.executable, "-m", "leaderjob", "config", "watch", "--json", *command.target) as lines:
        lines.until(lambda line: json.loads(line) == {})
        command("set jobs.search_index.enabled false")
        lines.until(lambda line: json.loads(line) == {"jobs": {"search_index": {"enabled": False}}})


def test_without_an_etcd_the_exit_code_says_so() -> None:
    assert said(["config", "get", "--etcd", "127.0.0.1:9"]).returncode == 3


def test_both_commands_say_how_settings_and_config_differ() -> None:
    shown = " ".join(said(["config", "--help"]).stdout.split())
    assert "'leaderjob settings' shows those: what a replica starts with" in shown
    shown = " ".join(said(["settings", "--help"]).stdout.split())
    assert "is shown by 'leaderjob config get'" in shown
