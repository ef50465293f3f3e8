"""Settings of certificates, users and secrets: what belongs together, and what nobody gets to see."""

import traceback
from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError
from leaderjob.settings import EtcdSettings, load_settings
from tests.support.settings import file, leave_alone, refused

SECRET = "hunter2"
DSN = f"https://{SECRET}@sentry.example.com/7"


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_alone(tmp_path, monkeypatch)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        Path(name).write_text("")


def etcd(**values: Any) -> EtcdSettings:
    return load_settings(None, {"etcd": values}).etcd


# Endpoints and TLS


@pytest.mark.parametrize(
    "endpoint",
    ["etcd-1:2379", "10.0.0.1:2379", "[::1]:2379", "http://etcd-1:2379", "https://etcd-1.example.com:2379"],
)
def test_an_endpoint_is_host_and_port_with_or_without_a_scheme(endpoint: str) -> None:
    assert etcd(endpoints=endpoint).endpoints == (endpoint,)
    assert etcd(endpoints=f" {endpoint}/ ").endpoints == (endpoint,)


@pytest.mark.parametrize(
    "endpoint",
    [
        "etcd-1",
        ":2379",
        "etcd-1:",
        "etcd-1:0",
        "etcd-1:65536",
        "etcd-1:²",
        "::1:2379",
        "unix://etcd:1",
        "http://etcd-1:2379/v3",
        "a b:1",
        "[]:1",
    ],
)
def test_what_is_no_endpoint_is_refused_by_name(endpoint: str) -> None:
    message = refused(etcd={"endpoints": ["etcd-0:2379", endpoint]})
    assert f"'etcd.endpoints.1': etcd endpoint '{endpoint}' " in message


@pytest.mark.parametrize(
    ("values", "encrypted"),
    [
        ({}, False),
        ({"endpoints": "a:1"}, False),
        ({"endpoints": "http://a:1"}, False),
        ({"endpoints": "https://a:1"}, True),
        ({"endpoints": "a:1,https://b:1"}, True),
        ({"endpoints": "a:1", "ca": "ca.pem"}, True),
        ({"endpoints": "a:1", "cert": "cert.pem", "key": "key.pem"}, True),
        ({"endpoints": "a:1", "tls": "true"}, True),
        ({"endpoints": "a:1", "tls": "false"}, False),
    ],
)
def test_tls_is_used_when_an_endpoint_or_a_certificate_asks_for_it(
    values: dict[str, Any], encrypted: bool
) -> None:
    assert etcd(**values).uses_tls is encrypted


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"endpoints": "http://a:1", "ca": "ca.pem"}, "the endpoints say http://, but tls, ca or cert asks"),
        ({"endpoints": "http://a:1", "tls": True}, "the endpoints say http://, but tls, ca or cert asks"),
        ({"endpoints": "https://a:1", "tls": False}, "tls is false, but an endpoint says https://"),
        ({"endpoints": "a:1", "tls": False, "ca": "ca.pem"}, "tls is false, but"),
        ({"cert": "cert.pem"}, "cert is set without key"),
        ({"key": "key.pem"}, "key is set without cert"),
    ],
)
def test_tls_to_etcd_that_contradicts_itself_is_refused(values: dict[str, Any], complaint: str) -> None:
    assert f"setting 'etcd': {complaint}" in refused(etcd=values)


def test_the_replicas_own_tls_takes_all_three_files_or_none() -> None:
    assert not load_settings(None, {}).tls.enabled
    assert load_settings(None, {"tls": {"cert": "cert.pem", "key": "key.pem", "ca": "ca.pem"}}).tls.enabled
    assert "setting 'tls': ca must be set too" in refused(tls={"cert": "cert.pem", "key": "key.pem"})
    assert "setting 'tls': cert and key must be set too" in refused(tls={"ca": "ca.pem"})


# Files


@pytest.mark.parametrize(
    "setting",
    [
        "etcd.ca",
        "etcd.cert",
        "etcd.key",
        "etcd.password_file",
        "tls.cert",
        "tls.key",
        "tls.ca",
        "sentry.dsn_file",
    ],
)
def test_a_file_that_is_not_there_is_refused_at_once_by_the_name_of_its_setting(setting: str) -> None:
    group, _, name = setting.partition(".")
    message = refused(**{group: {name: "nowhere.pem"}})
    assert f"setting '{setting}': the file nowhere.pem does not exist" in message
    Path("folder").mkdir()
    assert f"setting '{setting}': folder is a directory" in refused(**{group: {name: "folder"}})


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert etcd(ca="~/ca.pem").ca == tmp_path / "ca.pem"
    assert load_settings(None, {"replica": {"state_dir": "~/state"}}).state_dir == tmp_path / "state"


# Users and secrets


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"username": "u"}, "username is set without a password"),
        ({"password": SECRET}, "a password is set without username"),
        ({"password_file": "password"}, "a password is set without username"),
        ({"username": "u", "password": SECRET, "password_file": "password"}, "both password and"),
    ],
)
def test_a_user_has_one_password_and_a_password_its_user(values: dict[str, Any], complaint: str) -> None:
    Path("password").write_text(SECRET)
    assert f"setting 'etcd': {complaint}" in refused(etcd=values)


def password_of(text: str) -> str:
    Path("password").write_bytes(text.encode())
    found = etcd(username="u", password_file="password").read_password()
    assert found is not None
    return found.get_secret_value()


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"{SECRET}\r\n"])
def test_a_secret_in_a_file_ends_before_the_final_newline(text: str) -> None:
    assert password_of(text) == SECRET


def test_what_else_a_secret_begins_and_ends_with_belongs_to_it() -> None:
    assert password_of(f" {SECRET} \n\n") == f" {SECRET} \n"


def test_a_secret_that_is_renewed_in_its_file_is_read_anew() -> None:
    Path("password").write_text("old\n")
    settings = etcd(username="u", password_file="password")
    Path("password").write_text(f"{SECRET}\n")
    password = settings.read_password()
    assert password is not None
    assert password.get_secret_value() == SECRET


def test_without_a_file_the_secret_is_that_of_the_settings() -> None:
    password = etcd(username="u", password=SECRET).read_password()
    assert password is not None
    assert password.get_secret_value() == SECRET
    assert etcd().read_password() is None
    dsn = load_settings(None, {"sentry": {"dsn": DSN}}).sentry.read_dsn()
    assert dsn is not None
    assert dsn.get_secret_value() == DSN
    assert load_settings(None, {}).sentry.read_dsn() is None


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"\n", "is empty"), (b"", "is empty"), (b"\xff\xfe", "is not text in UTF-8")]
)
def test_a_file_without_a_secret_is_named_and_why(content: bytes, complaint: str) -> None:
    settings = etcd(username="u", password_file=file("x"))
    Path("settings.toml").write_bytes(content)
    with pytest.raises(
        SettingsError, match=rf"'etcd.password_file': the file settings.toml {complaint}"
    ) as caught:
        settings.read_password()
    assert caught.value.exit_code == 2


def test_a_secret_that_cannot_be_read_any_more_is_named_and_why() -> None:
    Path("dsn").write_text(DSN)
    sentry = load_settings(None, {"sentry": {"dsn_file": "dsn"}}).sentry
    Path("dsn").unlink()
    with pytest.raises(SettingsError, match=r"'sentry.dsn_file': the file dsn cannot be read: No such file"):
        sentry.read_dsn()


def test_a_dsn_is_checked_wherever_it_comes_from() -> None:
    assert "setting 'sentry.dsn': it is not a DSN" in refused(sentry={"dsn": SECRET})
    Path("dsn").write_text(SECRET)
    with pytest.raises(
        SettingsError, match=r"'sentry.dsn_file': what dsn holds .* it is not a DSN"
    ) as caught:
        load_settings(None, {"sentry": {"dsn_file": "dsn"}}).sentry.read_dsn()
    assert SECRET not in str(caught.value)
    Path("dsn").write_text(f"{DSN}\n")
    assert load_settings(None, {"sentry": {"dsn_file": "dsn"}}).sentry.read_dsn() is not None


def test_there_is_at_most_one_dsn_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dsn").write_text(DSN)
    assert "setting 'sentry': both dsn and dsn_file are set" in refused(
        sentry={"dsn": DSN, "dsn_file": "dsn"}
    )
    monkeypatch.setenv("LEADERJOB_SENTRY_DSN", "")
    assert load_settings(None, {}).sentry.dsn is None


def test_no_secret_is_in_the_representation_of_settings() -> None:
    settings = load_settings(None, {"etcd": {"username": "u", "password": SECRET}, "sentry": {"dsn": DSN}})
    for shown in (repr(settings), str(settings), repr(settings.in_force()), settings.model_dump_json()):
        assert SECRET not in shown


@pytest.mark.parametrize(
    "text",
    [
        f"[etcd]\npassword = '{SECRET}'",
        f"[etcd]\nusername = 'u'\npassword = ['{SECRET}']",
        f"[etcd]\nusername = 'u'\npassword = {{secret = '{SECRET}'}}",
        f"[etcd]\nusername = ['u']\npassword = '{SECRET}'",
        f"[etcd]\npasword = '{SECRET}'",
        f"[ectd]\npassword = '{SECRET}'",
        f"etcd = '{SECRET}'",
        f"[etcd]\nendpoints = ['https://root:{SECRET}@etcd-1:2379']",
        f"[etcd]\nendpoints = ['root:{SECRET}@etcd-1']",
        f"[sentry]\ndsn = '{SECRET}'",
        f"[sentry]\ndsn = 'https://[{SECRET}'",
        f"[sentry]\ndsn = 'https://{SECRET}\u2100@sentry.example.com/7'",
        f"[sentry]\ndsn = ['{DSN}']",
        f"[sentry]\ndns = '{DSN}'",
        f"[etcd]\npassword = '{SECRET}",
        f"[etcd]\npassword = {SECRET}",
    ],
)
def test_no_secret_is_in_an_error(text: str) -> None:
    config = file(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(config, {})
    told = str(caught.value) + "".join(traceback.format_exception(caught.value))
    assert SECRET not in told


@pytest.mark.parametrize("value", [f'{{"x": "{SECRET}"}}', f'["{SECRET}'])
def test_no_secret_of_a_variable_is_in_an_error(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_SENTRY_DSN", value)
    monkeypatch.setenv("LEADERJOB_ETCD_PASSWORD", value)
    assert SECRET not in refused()
    monkeypatch.setenv("LEADERJOB_ETCD_PASSWORDS", value)
    message = refused()
    assert SECRET not in message
    assert "did you mean LEADERJOB_ETCD_PASSWORD?" in message
