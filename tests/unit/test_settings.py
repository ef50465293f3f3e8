"""Settings: where they come from, what wins, and what is refused, in words that help."""

from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError
from leaderjob.recipes import Timing
from leaderjob.settings import Settings, load_settings, variable_names


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, with none of our variables set."""
    monkeypatch.chdir(tmp_path)
    for name in variable_names():
        monkeypatch.delenv(name, raising=False)


def file(text: str) -> Path:
    path = Path("settings.toml")
    path.write_text(text)
    return path


def refused(config: Path | None = None, **flags: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(config, flags)
    assert caught.value.exit_code == 2
    return str(caught.value)


# Precedence


def test_variables_win_over_the_file_and_flags_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    config = file(
        '[etcd]\nnamespace = "file"\nendpoints = ["file:1"]\n[election]\nttl = "20s"\n[replica]\nid = "file"'
    )
    monkeypatch.setenv("LEADERJOB_ETCD_NAMESPACE", "variable")
    monkeypatch.setenv("LEADERJOB_REPLICA_ID", "variable")
    settings = load_settings(config, {"replica": {"id": "flag", "listen": None}})
    assert settings.replica.id == "flag"
    assert settings.etcd.namespace == "variable"
    assert settings.etcd.endpoints == ("file:1",)
    assert settings.election.ttl == 20
    assert settings.replica.listen == "127.0.0.1:0"


def test_a_file_in_the_current_directory_is_read_by_its_name_alone() -> None:
    Path("leaderjob.toml").write_text('jobs = ["jobs.one", "jobs.two"]')
    assert load_settings(None, {}).jobs == ("jobs.one", "jobs.two")


def test_a_flag_that_was_not_given_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_JOBS", "jobs.one")
    assert load_settings(None, {"jobs": None, "etcd": {"endpoints": None}}).jobs == ("jobs.one",)


def test_each_variable_that_is_listed_sets_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "LEADERJOB_ELECTION_TAKEOVER_FAST": ("false", False),
        "LEADERJOB_ELECTION_KILL_GRACE": ("500ms", 0.5),
        "LEADERJOB_RESULTS_PUBLISH_AFTER": ("0", 0),
        "LEADERJOB_REPLICA_LISTEN_HTTP": ("127.0.0.1:8080", "127.0.0.1:8080"),
        "LEADERJOB_REPLICA_STATE_DIR": ("/somewhere", Path("/somewhere")),
    }
    known = variable_names()
    for name, (text, _) in values.items():
        monkeypatch.setenv(name, text)
    settings = load_settings(None, {})
    for name, (_, expected) in values.items():
        group, field = known[name].split(".")
        assert getattr(getattr(settings, group), field) == expected


# Lists, durations, objects


@pytest.mark.parametrize(
    "text", ["one:1,two:2", " one:1 , two:2 ,", '["one:1", "two:2"]', ' [ "one:1","two:2" ] ']
)
def test_a_list_is_comma_separated_or_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINTS", text)
    assert load_settings(None, {}).etcd.endpoints == ("one:1", "two:2")


def test_a_list_that_is_broken_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINTS", '["one:1"')
    assert "etcd.endpoints" in refused()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("1500ms", 1.5)]
)
def test_a_duration_is_seconds_or_has_units(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("LEADERJOB_RESULTS_PUBLISH_TIMEOUT", text)
    assert load_settings(None, {}).results.publish_timeout == seconds
    assert load_settings(None, {"results": {"publish_timeout": seconds}}).results.publish_timeout == seconds


@pytest.mark.parametrize("text", ["soon", "10 parsecs", "-1", ""])
def test_what_is_no_duration_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LEADERJOB_RESULTS_PUBLISH_TIMEOUT", text)
    message = refused()
    assert "results.publish_timeout" in message
    assert "is not a duration" in message


@pytest.mark.parametrize(
    "text", ["[overrides.index]\nschedule = 'every 5m'", "[overrides.index]\nschedule = ['every 5m']"]
)
def test_an_override_takes_one_schedule_or_several(text: str) -> None:
    assert load_settings(file(text), {}).overrides["index"].schedule == ("every 5m",)


def test_an_empty_schedule_in_an_override_means_none_and_no_schedule_means_the_jobs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEADERJOB_OVERRIDES", '{"a": {"schedule": ""}, "b": {"timeout": "5m"}}')
    overrides = load_settings(None, {}).overrides
    assert overrides["a"].schedule == ()
    assert overrides["b"].schedule is None
    assert overrides["b"].timeout == 300


# Names that are not known


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("LEADERJOB_ETCD_ENDPOINT", "LEADERJOB_ETCD_ENDPOINTS"),
        ("LEADERJOB_ELECTION_TLL", "LEADERJOB_ELECTION_TTL"),
        ("LEADERJOB_JOB", "LEADERJOB_JOBS"),
    ],
)
def test_an_unknown_variable_names_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "x")
    message = refused()
    assert name in message
    assert f"did you mean {nearest}?" in message


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("[etcd]\nendpoint = ['x:1']", "etcd.endpoint", "etcd.endpoints"),
        ("[election]\ntimeout = 5", "election.timeout", "election."),
        ("job = ['x']", "job", "jobs"),
        ("[overrides.index]\ntime_out = '5m'", "overrides.index.time_out", "overrides."),
    ],
)
def test_an_unknown_name_in_the_file_names_the_nearest_right_one(text: str, wrong: str, nearest: str) -> None:
    message = refused(file(text))
    assert f"unknown setting '{wrong}'" in message
    assert nearest in message


def test_an_unknown_flag_names_the_nearest_right_one() -> None:
    assert "did you mean replica.id?" in refused(replica={"ids": "x"})


@pytest.mark.parametrize(
    "name",
    [
        "LEADERJOB_SERVICE_HOST",
        "LEADERJOB_SERVICE_PORT_GRPC",
        "LEADERJOB_PORT",
        "LEADERJOB_PORT_8080_TCP_ADDR",
        "LEADERJOB_RUN_ID",
    ],
)
def test_what_kubernetes_injects_and_what_a_run_is_told_are_ignored(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    undisturbed = load_settings(None, {}).model_dump()
    monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    assert load_settings(None, {}).model_dump() == undisturbed


# Values that do not fit


@pytest.mark.parametrize(
    ("election", "complaint"),
    [
        ({"ttl": 4, "margin": 2}, "margin 2s must be above 0 and below half of the ttl of 4s"),
        ({"ttl": 10, "margin": 0}, "margin 0s must be above 0"),
        ({"ttl": 10, "margin": 2, "kill_grace": 3}, "kill_grace 3s must not exceed the margin"),
        ({"ttl": 9, "keepalive": "3.1s"}, "keepalive 3.1s must be above 0 and at most a third of the ttl"),
        ({"keepalive": 0}, "keepalive 0s must be above 0"),
    ],
)
def test_timing_that_does_not_fit_is_refused(election: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(election=election)


@pytest.mark.parametrize(
    ("ttl_s", "margin_s", "keepalive_s"),
    [(1, 0.2, None), (2.5, 0.5, None), (4, 2, None), (4, 0, None), (4, -1, None), (6, 1, 2.1), (6, 1, 0)],
)
def test_a_session_refuses_timing_that_does_not_fit(
    ttl_s: float, margin_s: float, keepalive_s: float | None
) -> None:
    with pytest.raises(SettingsError, match=r"\bs\b"):
        Timing(ttl_s=ttl_s, margin_s=margin_s, keepalive_s=keepalive_s)


def test_the_defaults_fit_each_other() -> None:
    election = Settings().election
    assert Timing(election.ttl, election.margin_s, election.keepalive) == Timing()


@pytest.mark.parametrize("ttl", [2, 3, 5, 10, 60])
def test_the_defaults_follow_any_ttl(ttl: int) -> None:
    election = load_settings(None, {"election": {"ttl": ttl}}).election
    timing = Timing(election.ttl, election.margin_s, election.keepalive)
    assert 0 < election.kill_grace_s <= timing.margin_s < timing.ttl_s / 2


def test_several_mistakes_are_told_at_once() -> None:
    message = refused(etcd={"namespace": "No Name"}, results={"keep": 0})
    assert "etcd.namespace" in message
    assert "results.keep" in message


def test_a_file_that_is_not_there_or_not_toml_is_refused_by_name() -> None:
    assert "missing.toml does not exist" in refused(Path("missing.toml"))
    assert "settings.toml cannot be read" in refused(file("[etcd\n"))


def test_a_replicas_state_is_kept_apart_by_namespace_and_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    settings = load_settings(None, {"etcd": {"namespace": "n"}, "replica": {"id": "r"}})
    assert settings.state_dir == Path("/state/leaderjob/replicas/n/r")
    elsewhere = load_settings(None, {"replica": {"state_dir": "/elsewhere"}})
    assert elsewhere.state_dir == Path("/elsewhere")


@pytest.mark.parametrize("hostname", ["Node-1.Example.COM", "host_name", "über", "-odd-", "x" * 200, "---"])
def test_any_hosts_name_makes_a_valid_default_id(monkeypatch: pytest.MonkeyPatch, hostname: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: hostname)
    assert load_settings(None, {}).replica.id
