"""Building etcd for the tests: what is pinned, and what happens where it cannot be built."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "build_etcd.py"


@pytest.fixture
def build_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``build_etcd.py`` with a cache and a ``build`` folder of its own; it builds the newest line."""
    spec = importlib.util.spec_from_file_location("build_etcd", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILT", tmp_path / "build")
    monkeypatch.setattr(sys, "argv", ["build_etcd.py"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CI", raising=False)
    return module


def go_that(directory: Path, *, builds: str) -> str:
    """A go command that knows its version, and for ``go build`` runs ``builds`` with the output folder as ``$1``."""
    program = directory / "go"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = version ]; then echo go version go1.2.3 linux/amd64; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done; shift\n'
        f"{builds}\n"
    )
    program.chmod(0o755)
    return str(program)


def test_each_line_pins_one_release_of_its_own_for_all_programs(build_etcd: ModuleType) -> None:
    assert build_etcd.lines() == ["3.7", "3.6", "3.5"]
    for line in build_etcd.lines():
        version = build_etcd.pinned_version(line)
        assert version.startswith(f"{line}.")
        required = (build_etcd.LINES / line / "go.mod").read_text()
        for package in ("server", "etcdctl"):
            assert f"go.etcd.io/etcd/{package}/v3 v{version} " in required


def test_what_is_built_is_linked_and_not_built_again(
    build_etcd: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go = go_that(tmp_path, builds=f'touch "$1/server" "$1/etcdctl"; echo once >> {tmp_path}/builds')
    monkeypatch.setattr(build_etcd, "find_go", lambda: go)
    assert build_etcd.main() == 0
    assert "built etcd 3.7." in capsys.readouterr().out
    assert build_etcd.main() == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "builds").read_text() == "once\n"
    assert sorted(path.name for path in (tmp_path / "build" / "3.7").iterdir()) == ["etcd", "etcdctl"]


def test_a_build_that_fails_is_an_error_in_ci_only_and_leaves_nothing(
    build_etcd: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go = go_that(tmp_path, builds='touch "$1/server"; echo no route to the module proxy >&2; exit 1')
    monkeypatch.setattr(build_etcd, "find_go", lambda: go)
    for ci, code in (("true", 1), ("", 0)):
        monkeypatch.setenv("CI", ci)
        assert build_etcd.main() == code
        assert "no route to the module proxy" in capsys.readouterr().err
    assert not (tmp_path / "build").exists()
    assert list((tmp_path / "cache" / "leaderjob" / "etcd").iterdir()) == []


def test_without_go_another_etcd_is_used_also_in_ci(
    build_etcd: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build_etcd, "find_go", lambda: None)
    monkeypatch.setenv("CI", "true")
    assert build_etcd.main() == 0
    assert "Go is not installed" in capsys.readouterr().out
