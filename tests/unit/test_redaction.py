"""Secrets do not appear in what is told."""

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import pytest

from leaderjob.connecting import etcd_user
from leaderjob.settings import EtcdSettings
from leaderjob.telemetry.events import Events, emit
from leaderjob.telemetry.logs import Format, configure_logs
from leaderjob.telemetry.redaction import MASKED, Redaction

CANARY = 'c4nary "\\ä/ 100%'


@pytest.fixture
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("leaderjob").level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("leaderjob").setLevel(ours)


@pytest.mark.parametrize(
    "form",
    [
        CANARY,
        json.dumps(CANARY)[1:-1],
        json.dumps(CANARY, ensure_ascii=False)[1:-1],
        repr(CANARY)[1:-1],
        quote(CANARY, safe=""),
        json.dumps(repr(CANARY)[1:-1])[1:-1],
    ],
    ids=["plain", "json", "json unicode", "literal", "address", "literal in json"],
)
def test_a_secret_is_masked_in_each_form_that_it_takes_in_text(form: str) -> None:
    assert Redaction(CANARY).mask(f"with {form} inside") == f"with {MASKED} inside"


def test_of_a_dsn_the_key_is_masked_as_well() -> None:
    redaction = Redaction("https://0123abcd@sentry.example/7")
    assert redaction.mask("dsn https://0123abcd@sentry.example/7") == f"dsn {MASKED}"
    assert redaction.mask("sentry_key=0123abcd") == f"sentry_key={MASKED}"


@pytest.mark.parametrize(
    ("told", "masked"),
    [
        ("at postgres://me:pw@db.example/x", f"at postgres://{MASKED}@db.example/x"),
        ("at http://key@host", f"at http://{MASKED}@host"),
        ("at http://host/path?by=me@example.org", "at http://host/path?by=me@example.org"),
        ('{"a":"http://host:1","b":"me@example.org"}', '{"a":"http://host:1","b":"me@example.org"}'),
        ("write to me@example.org", "write to me@example.org"),
    ],
)
def test_credentials_in_addresses_are_masked_though_nobody_named_them(told: str, masked: str) -> None:
    assert Redaction().mask(told) == masked


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    assert Redaction("ab").mask("cab ab abc") == f"cab {MASKED} abc"


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    assert Redaction("secret", "secret-of-all").mask("secret-of-all") == MASKED


def test_a_password_that_was_renewed_is_known_when_it_has_been_read(tmp_path: Path) -> None:
    file, redaction = tmp_path / "password", Redaction()
    file.write_text("former-one\n")
    user = etcd_user(EtcdSettings(username="u", password_file=file), on_secret=redaction.add)
    assert user is not None
    file.write_text("renewed-one\n")
    assert user.password() == "renewed-one"
    assert redaction.mask("former-one renewed-one") == f"{MASKED} {MASKED}"


def test_an_empty_secret_masks_nothing() -> None:
    assert Redaction("", " ").mask("a b") == "a b"


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_secret_is_in_no_log_line_wherever_it_comes_from(as_before: None, format: Format) -> None:  # noqa: A002
    out, redaction = StringIO(), Redaction()
    configure_logs("r1", "prod", format=format, stream=out, mask=redaction.mask)
    redaction.add(CANARY)
    emit(
        Events.CONNECTION_TROUBLE,
        reason=ValueError(f"refused {CANARY}"),
        password=CANARY,
        trace=f"a\n{CANARY}\n",
    )
    logging.getLogger("library").warning("with %s", CANARY)
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("library").exception("broken")
    lines = out.getvalue()
    assert "c4nary" not in lines
    assert lines.count(MASKED) >= 5
    if format == "json":
        assert [json.loads(line)["level"] for line in lines.splitlines()] == ["warning", "warning", "error"]
