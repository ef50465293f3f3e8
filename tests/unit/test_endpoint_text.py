"""The one parser of etcd's endpoints, and where a password may go."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.client import Client
from leaderjob.endpoints import Endpoint, parse_endpoint, parse_endpoints
from leaderjob.errors import SettingsError
from leaderjob.etcd import Etcd, User
from leaderjob.settings import load_settings
from leaderjob.tls import CertificateFiles, system_authorities
from tests.support.commands import said as run

SECRET = "Zr5-cret"
USER = User("root", lambda: SECRET)
REMOTE = [
    "etcd.example:2379",
    "http://10.0.0.1:2379",
    "[2001:db8::1]:2379",
    "0.0.0.0:2379",
    "127.0.0.1.example:2379",
]
LOCAL = [
    "127.0.0.1:2379",
    "127.8.9.10:2379",
    "http://localhost:2379",
    "LOCALHOST:2379",
    "[::1]:2379",
    "[::ffff:127.0.0.1]:2379",
    "unix:///run/etcd.sock",
]


@pytest.mark.parametrize(
    ("text", "scheme", "address"),
    [
        ("etcd-1:2379", "", "etcd-1:2379"),
        (" http://etcd_1.example.:2379/ ", "http", "etcd_1.example.:2379"),
        ("HTTPS://10.0.0.1:1", "https", "10.0.0.1:1"),
        ("[::1]:2379", "", "[::1]:2379"),
        ("https://[fe80::1%eth0]:65535", "https", "[fe80::1%eth0]:65535"),
        ("unix:///run/etcd.sock", "unix", "unix:///run/etcd.sock"),
    ],
)
def test_endpoint_has_an_address_and_perhaps_a_scheme(text: str, scheme: str, address: str) -> None:
    assert parse_endpoint(text) == Endpoint(scheme, address)
    assert parse_endpoint(str(parse_endpoint(text))) == Endpoint(scheme, address)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no port"),
        ("etcd-1", "has no port: etcd listens for clients on port 2379"),
        ("https://etcd-1", "has no port"),
        ("[::1]", "has no port"),
        (":2379", "has no host"),
        ("etcd-1:", "has no port from 1 to 65535"),
        ("etcd-1:0", "has no port from 1 to 65535"),
        ("etcd-1:65536", "has no port from 1 to 65535"),
        ("etcd-1:²", "has no port from 1 to 65535"),
        ("etcd-1:" + "9" * 5000, "has no port from 1 to 65535"),
        ("::1:2379", "an IPv6 address goes in brackets: write [::1]:2379"),
        ("https://fe80::1:2379", "write [fe80::1]:2379"),
        ("1:2:3:4:5:6:7:8", "write [1:2:3:4:5:6:7:8]:2379"),
        ("a:b:2379", "has several colons"),
        ("[etcd-1]:2379", "has no IPv6 address in its brackets"),
        ("[127.0.0.1]:2379", "has no IPv6 address in its brackets"),
        ("[::1:2379", "has no IPv6 address in its brackets"),
        ("a:1,b:2", "give a list, one endpoint in each element"),
        ("https://a:1/v3", "has more behind the port"),
        ("a:1?x=1", "has more behind the port"),
        ("a:1#x", "has more behind the port"),
        ("http:///etcd:2379", "has more behind the port"),
        ("ftp://a:1", "has the unknown scheme ftp://"),
        ("https://http://a:1", "has more behind the port"),
        ("a b:1", "has no host name or address"),
        ("é:1", "has no host name or address"),
        ("a\n:1", "holds characters that cannot be printed"),
        ("a\x00:1", "holds characters that cannot be printed"),
        ("a:\u202e1", "holds characters that cannot be printed"),
        ("a\udc80:1", "holds characters that cannot be printed"),
        ("unix://etcd:1", "does not name a Unix socket by its absolute path"),
        ("unix:etcd.sock", "does not name a Unix socket by its absolute path"),
        (f"root:{SECRET}@etcd-1:2379", "holds a user or a password"),
        (f"https://root:{SECRET}@etcd-1:2379", "holds a user or a password"),
        (f"root:{SECRET}@a@b,c:1/d?e", "holds a user or a password"),
        (f"root:{SECRET}%40etcd-1:2379", "holds a user or a password"),
        (f"root:x,{SECRET}@etcd-1:2379", "holds a user or a password"),
        (f"etcd-1:2379?password={SECRET}", "has more behind the port"),
    ],
)
def test_what_is_not_an_endpoint_is_refused_alike_everywhere(text: str, said: str) -> None:
    def refusals() -> list[str]:
        found = []
        for attempt in (
            lambda: Etcd([text]),
            lambda: Client(["a:1", text]),
            lambda: load_settings(None, {"etcd": {"endpoints": ["a:1", text]}}),
        ):
            with pytest.raises(SettingsError) as caught:
                attempt()
            found.append(str(caught.value))
        return found

    for refusal in refusals():
        assert said in refusal
        assert SECRET not in refusal
        assert refusal.isprintable()
        assert len(refusal) < 400


@pytest.mark.parametrize(
    "text", [f"https://root:{SECRET}@etcd:1", f"root:a,{SECRET}@etcd:1", f"a:1,b:{SECRET}@c:2"]
)
def test_command_line_never_repeats_a_password(text: str) -> None:
    done = run(["status", "--etcd", text])
    assert done.returncode == 2
    assert "holds a user or a password" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@given(st.text() | st.from_regex(r"(https?://)?[\[\]:.a-f0-9%@,/?#]{0,30}", fullmatch=True))
@example("١٢:1")
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except SettingsError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


@given(st.text(min_size=6), st.sampled_from(["etcd:1", "etcd", "[::1]:1", "a:1,b:2", ""]))
def test_no_password_is_quoted(password: str, host: str) -> None:
    password = f"{SECRET}{password}{SECRET}"
    with pytest.raises(SettingsError) as caught:
        parse_endpoint(f"https://root:{password}@{host}")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"root:{SECRET}%2540h:1",
        f"root:{SECRET}\uff20h:1",
        f"root:{SECRET}",
        f"https://root:{SECRET}",
        f"h:1;{SECRET}",
    ],
)
def test_what_may_be_part_of_a_password_is_not_quoted(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Etcd([text])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("at", ["@", "%40", "%2540"])
def test_password_with_a_comma_is_not_quoted_in_part(at: str) -> None:
    text = f"https://root:12345,{SECRET},{SECRET}{at}h:1"
    with pytest.raises(SettingsError, match="holds a user or a password") as caught:
        load_settings(None, {"etcd": {"endpoints": text}})
    assert SECRET not in str(caught.value)
    assert "12345" not in str(caught.value)


def test_one_string_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(SettingsError, match="give a list"):
        Etcd("127.0.0.1:2379")


def test_endpoint_that_is_named_twice_counts_once() -> None:
    found = Etcd(["http://a:1/", "b:2", "a:1", " [::1]:3 "]).connection.endpoints
    assert found == ("a:1", "b:2", "[::1]:3")


def test_all_endpoints_are_encrypted_if_one_says_https() -> None:
    assert [str(each) for each in parse_endpoints(["a:1", "https://b:1"])] == ["https://a:1", "https://b:1"]
    assert load_settings(None, {"etcd": {"endpoints": "a:1,https://b:1"}}).etcd.endpoints == (
        "https://a:1",
        "https://b:1",
    )


@pytest.mark.parametrize(
    ("endpoints", "certificates", "said"),
    [
        (["http://a:1", "https://b:1"], None, "some endpoints say http:// and some https://"),
        (["unix:///etcd.sock", "https://b:1"], None, "which are not encrypted"),
        (["http://a:1"], CertificateFiles(), "certificates are given, but connections to http://a:1 are not"),
        (
            ["a:1", "unix:///etcd.sock"],
            CertificateFiles(),
            "certificates are given, but connections to unix:///",
        ),
    ],
)
def test_contradictions_about_encryption_are_refused(
    endpoints: list[str], certificates: CertificateFiles | None, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        Etcd(endpoints, certificates=certificates)


# Passwords


@pytest.mark.parametrize("endpoint", REMOTE)
def test_password_does_not_leave_the_machine_unencrypted(endpoint: str) -> None:
    for attempt in (
        lambda: Etcd(["127.0.0.1:1", endpoint], user=USER),
        lambda: Client([endpoint], user=USER),
        lambda: load_settings(
            None, {"etcd": {"endpoints": [endpoint], "username": "root", "password": SECRET}}
        ),
    ):
        with pytest.raises(SettingsError, match=r"unencrypted.*allow_plaintext_password") as caught:
            attempt()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("endpoint", LOCAL)
def test_password_may_go_unencrypted_to_this_machine(endpoint: str) -> None:
    Etcd([endpoint], user=USER)
    load_settings(None, {"etcd": {"endpoints": [endpoint], "username": "root", "password": SECRET}})


def test_password_goes_unencrypted_over_a_network_where_that_is_asked_for() -> None:
    Etcd(REMOTE, user=USER, allow_plaintext_password=True)
    Client(REMOTE, user=USER, allow_plaintext_password=True)
    given = {"endpoints": REMOTE, "username": "root", "password": SECRET, "allow_plaintext_password": True}
    assert load_settings(None, {"etcd": given}).etcd.allow_plaintext_password


@pytest.mark.parametrize("command", [["settings"], ["run", "--id", "r", "--jobs", "jobs.hello"], ["status"]])
def test_flag_allows_a_plaintext_password(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERJOB_ETCD_USERNAME", "root")
    monkeypatch.setenv("LEADERJOB_ETCD_PASSWORD", SECRET)
    refused = run([*command, "--etcd", "etcd.invalid:1"])
    assert refused.returncode == 2
    assert "unencrypted" in refused.stderr
    assert SECRET not in refused.stdout + refused.stderr
    if command == ["settings"]:  # which connects to nothing
        allowed = run([*command, "--etcd", "etcd.invalid:1", "--allow-plaintext-password"])
        assert allowed.returncode == 0, allowed.stderr
        assert SECRET not in allowed.stdout + allowed.stderr


# The system's authorities


def test_system_without_authorities_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with pytest.raises(SettingsError, match="install ca-certificates"):
        Etcd(["https://etcd.example:2379"])
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=f"{tmp_path} has none"):
        system_authorities()
