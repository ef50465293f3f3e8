"""What a test needs beyond Python is looked for, and where it is missing its Debian package is named."""

import os
from pathlib import Path

import pytest

from tests.support import needs as looked_for


@pytest.fixture(autouse=True)
def looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looked_for, "missing", looked_for.missing.__wrapped__)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def reason(*names: str) -> str:
    mark = looked_for.needs(*names).mark
    assert mark.args == (bool(mark.kwargs["reason"]),), "skipped if, and only if, there is a reason"
    return str(mark.kwargs["reason"])


@pytest.mark.parametrize("program", sorted(looked_for.PACKAGES))
def test_missing_program_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = f"{program} is not installed (Debian: apt install {looked_for.PACKAGES[program]})"
    assert reason(program) == said
    (tmp_path / program).write_text("")
    assert reason(program) == said, "a file that nobody may execute is no program"
    (tmp_path / program).chmod(0o755)
    assert reason(program) == ""


@pytest.mark.usefixtures("root")
def test_machines_need_every_program_that_makes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(looked_for, "_may", lambda *_: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    lacking = []
    while said := reason("machines"):
        program = said.split()[0]
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o755)
        lacking.append(program)
    assert {"ip", "ss", "iptables-restore"} <= set(lacking)


@pytest.mark.usefixtures("root")
def test_root_without_the_capabilities_makes_no_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr(looked_for, "_STATUS", status)
    # That of root in a container as Docker starts it by default.
    status.write_text("Name:\tpytest\nCapEff:\t00000000a80425fb\n")
    assert "CAP_NET_ADMIN" in reason("machines")
    assert "CAP_SYS_ADMIN" in reason("disks")


def test_ordinary_users_make_no_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in reason("machines")


def test_each_reason_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason("openssl", "promtool", "openssl").count("apt install openssl") == 1


def test_a_name_that_is_not_listed_is_an_error() -> None:
    with pytest.raises(KeyError):
        looked_for.needs("no-such-program")
