"""Settings: where they come from, what wins, and what is refused, in words that help."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from leaderjob.settings import JobOverride, Origin, Settings, load_settings, load_with_origins, variable_names
from tests.support.settings import file, leave_alone, refused


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_alone(tmp_path, monkeypatch)


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


def test_each_value_is_known_to_come_from_a_default_a_file_a_variable_or_a_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = file('jobs = ["file"]\n[election]\nttl = 20\n[log]\nlevel = "debug"\nformat = "text"')
    monkeypatch.setenv("LEADERJOB_ELECTION_TTL", "30s")
    monkeypatch.setenv("LEADERJOB_LOG_LEVEL", "error")
    loaded = load_with_origins(config, {"election": {"ttl": "40s"}, "replica": {"id": None}})
    assert loaded.origins.keys() == loaded.settings.in_force().keys()
    from_file = Origin("file", str(config.absolute()))
    assert (loaded.settings.jobs, loaded.origins["jobs"]) == (("file",), from_file)
    assert (loaded.settings.log.format, loaded.origins["log.format"]) == ("text", from_file)
    assert (loaded.settings.log.level, loaded.origins["log.level"]) == (
        "error",
        Origin("variable", "LEADERJOB_LOG_LEVEL"),
    )
    assert (loaded.settings.election.ttl, loaded.origins["election.ttl"]) == (
        40,
        Origin("flag", "election.ttl"),
    )
    assert loaded.origins["replica.id"] == loaded.origins["election.margin"] == Origin("default")


def test_overrides_come_from_the_file_or_all_together_from_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = file("[overrides.'a.b']\ntimeout = '5m'")
    loaded = load_with_origins(config, {})
    assert loaded.settings.in_force()["overrides.a.b.timeout"] == 300
    assert loaded.origins["overrides.a.b.timeout"] == Origin("file", str(config.absolute()))
    monkeypatch.setenv("LEADERJOB_OVERRIDES", '{"c": {"schedule": ""}}')
    loaded = load_with_origins(config, {})
    assert loaded.settings.in_force()["overrides.c.schedule"] == ()
    assert loaded.origins["overrides.c.schedule"] == Origin("variable", "LEADERJOB_OVERRIDES")
    assert "overrides.a.b.timeout" not in loaded.origins


def test_in_force_is_what_follows_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    values = load_settings(
        None, {"election": {"ttl": 5}, "etcd": {"endpoints": "https://a:1"}, "replica": {"id": "r"}}
    ).in_force()
    assert (values["election.margin"], values["election.keepalive"]) == (1.25, 1.0)
    assert values["election.kill_grace"] == 0.625
    assert values["etcd.tls"] is True
    assert values["replica.state_dir"] == Path("/state/leaderjob/replicas/default/r")


# Lists, durations, objects


@pytest.mark.parametrize(
    "text", ["one:1,two:2", " one:1 , two:2 ,", '["one:1", "two:2"]', ' [ "one:1","two:2" ] ']
)
def test_a_list_is_comma_separated_or_json(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINTS", text)
    assert load_settings(None, {}).etcd.endpoints == ("one:1", "two:2")


@pytest.mark.parametrize("text", ["[::1]:1,[fe80::1%eth0]:2", '["[::1]:1", "[fe80::1%eth0]:2"]'])
def test_an_ipv6_address_does_not_begin_a_json_list(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINTS", text)
    assert load_settings(None, {}).etcd.endpoints == ("[::1]:1", "[fe80::1%eth0]:2")


def test_a_list_that_is_broken_json_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_ENDPOINTS", '["one:1"')
    assert "setting 'etcd.endpoints': it is not JSON" in refused()


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("1500ms", 1.5)]
)
def test_a_duration_is_seconds_or_has_units(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("LEADERJOB_RESULTS_PUBLISH_TIMEOUT", text)
    assert load_settings(None, {}).results.publish_timeout == seconds
    assert load_settings(None, {"results": {"publish_timeout": seconds}}).results.publish_timeout == seconds


def test_every_setting_that_is_a_float_is_a_duration() -> None:
    groups = [field.annotation for field in Settings.model_fields.values()] + [JobOverride]
    floats = [
        (group, name)
        for group in groups
        if isinstance(group, type) and issubclass(group, BaseModel)
        for name, field in group.model_fields.items()
        if "float" in str(field.annotation)
    ]
    assert {name for _, name in floats} >= {"ttl", "margin", "publish_timeout", "timeout"}
    for group, name in floats:
        with pytest.raises(ValidationError, match="'soon' is not a duration"):
            group(**{name: "soon"})


@pytest.mark.parametrize("text", ["inf", "nan"])
def test_a_duration_has_an_end(text: str) -> None:
    message = refused(file(f"[election]\nttl = {text}"))
    assert f"'election.ttl': {text} is not a duration" in message


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
        ("LEADERJOB_ELECTON_TTL", "LEADERJOB_ELECTION_TTL"),
        ("LEADERJOB_ETCDENDPOINTS", "LEADERJOB_ETCD_ENDPOINTS"),
        ("LEADERJOB_TTL", "LEADERJOB_ELECTION_TTL"),
        ("LEADERJOB_LOG_LEVLE", "LEADERJOB_LOG_LEVEL"),
        ("leaderjob_log_levle", "LEADERJOB_LOG_LEVEL"),
    ],
)
def test_an_unknown_variable_names_the_nearest_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "x")
    message = refused()
    assert name in message
    assert f"did you mean {nearest}?" in message


def test_a_variable_with_the_name_of_a_group_is_told_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_LOG", "debug")
    message = refused()
    assert (
        message
        == "the variable LEADERJOB_LOG sets nothing; known are LEADERJOB_LOG_FORMAT, LEADERJOB_LOG_LEVEL"
    )


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("[etcd]\nendpoint = ['x:1']", "etcd.endpoint", "etcd.endpoints"),
        ("[etcd]\nttl = 5", "etcd.ttl", "election.ttl"),
        ("[replica]\ncart = 'x'\n[tls]\ncart = 'x'", "tls.cart", "tls.cert"),
        ("[replica]\ncert = 'x'", "replica.cert", "etcd.cert or tls.cert"),
        ("job = ['x']", "job", "jobs"),
        ("ttl = 5", "ttl", "election.ttl"),
        ("[electon]\nttl = 5", "electon", "election"),
        ("[override.index]\ntimeout = 5", "override", "overrides"),
        ("[overrides.index]\ntime_out = '5m'", "overrides.index.time_out", "overrides.index.timeout"),
        ("[overrides.'a.b']\nparam = {}", "overrides.a.b.param", "overrides.a.b.params"),
    ],
)
def test_an_unknown_name_in_the_file_names_the_nearest_right_one(text: str, wrong: str, nearest: str) -> None:
    assert f"unknown setting '{wrong}'; did you mean {nearest}?" in refused(file(text))


def test_a_name_that_is_near_to_none_is_told_what_there_is_in_its_group() -> None:
    assert "unknown setting 'log.colour'; known are log.format, log.level" in refused(log={"colour": True})


def test_a_value_in_place_of_a_group_is_told_how_to_write_one() -> None:
    assert "setting 'log': it is a table of settings, not a value: write [log]" in refused(
        file("log = 'json'")
    )


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


@pytest.mark.parametrize(("level", "format_"), [("debug", "json"), ("WARNING", "Text"), ("error", "auto")])
def test_log_settings_are_words_in_any_case(level: str, format_: str) -> None:
    log = load_settings(None, {"log": {"level": level, "format": format_}}).log
    assert (log.level, log.format) == (level.lower(), format_.lower())


def test_a_word_that_is_not_one_of_the_words_is_refused_with_those() -> None:
    message = refused(log={"level": "loud"})
    assert "setting 'log.level'" in message
    for word in ("debug", "info", "warning", "error"):
        assert word in message
