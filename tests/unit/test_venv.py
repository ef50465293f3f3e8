"""The bootstrap: when the virtualenv is made again, with which Python, and what is said when it cannot be."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``make_venv.py`` for a project in ``tmp_path``."""
    module = _load("make_venv")
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    for name in module.INPUTS:
        (tmp_path / name).write_text(name)
    return module


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``environment.py`` for a project in ``tmp_path``."""
    module = _load("environment")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "BUILDS", tmp_path / ".venvs")
    return module


def _finished(link: Path, **stamp: str) -> None:
    (link / "bin").mkdir(parents=True)
    (link / "bin" / "python").symlink_to(sys.executable)
    (link / "leaderjob-venv.json").write_text(json.dumps(stamp))


def _interpreter(folder: Path, name: str, answer: str) -> str:
    """A program that answers the probe as an interpreter with that fault would."""
    program = folder / name
    program.write_text(f"#!/bin/sh\necho {answer}\n")
    program.chmod(0o755)
    return str(program)


def test_a_finished_virtualenv_is_left_alone(make_venv: ModuleType, tmp_path: Path) -> None:
    wanted = make_venv.fingerprint()
    _finished(tmp_path / "link", fingerprint=wanted, extras="dev", version="3.12.1")
    assert make_venv.reason_to_build(str(tmp_path / "link"), "dev", wanted) is None
    assert make_venv.reason_to_build(str(tmp_path / "link"), "demo", wanted) is None
    assert make_venv.reason_to_build(str(tmp_path / "link"), "dev", wanted, "3.12.1") is None


def test_nothing_is_said_and_no_interpreter_is_asked_when_there_is_nothing_to_do(
    make_venv: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _finished(tmp_path / "build", fingerprint=make_venv.fingerprint(), extras="dev", version="3.12.1")
    (tmp_path / ".venv").symlink_to("build")
    monkeypatch.setattr(make_venv, "probe", lambda python: pytest.fail("an interpreter was asked"))
    monkeypatch.setattr(sys, "argv", ["make_venv.py", "--extras", "demo"])
    make_venv.main()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_it_is_made_again_when_what_it_was_made_from_changes(
    make_venv: ModuleType, tmp_path: Path, changed: str
) -> None:
    _finished(tmp_path / "link", fingerprint=make_venv.fingerprint(), extras="dev", version="3.12.1")
    (tmp_path / changed).write_text("something else")
    reason = make_venv.reason_to_build(str(tmp_path / "link"), "dev", make_venv.fingerprint())
    assert reason == "pyproject.toml or constraints.txt changed"


def test_a_copy_of_the_project_does_not_use_the_virtualenv_of_the_original(
    make_venv: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = make_venv.fingerprint()
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in make_venv.INPUTS:
        (copy / name).write_text(name)
    monkeypatch.setattr(make_venv, "ROOT", str(copy))
    assert make_venv.fingerprint() != original


def test_it_is_made_again_when_it_is_unfinished_too_small_or_spoilt(
    make_venv: ModuleType, tmp_path: Path
) -> None:
    link, wanted = tmp_path / "link", make_venv.fingerprint()

    def reason(version: str | None = None) -> str:
        return str(make_venv.reason_to_build(str(link), "dev", wanted, version))

    assert reason() == "there is none"
    _finished(link, fingerprint=wanted, extras="demo", version="3.12.1")
    assert reason() == "it lacks what 'dev' needs"
    (link / "leaderjob-venv.json").write_text(
        json.dumps({"fingerprint": wanted, "extras": "dev", "version": "3.12.1"})
    )
    assert reason("3.13.0") == "it has Python 3.12.1"
    (link / "lib" / "python3.12" / "site-packages" / "etcd3-0.12.0.dist-info").mkdir(parents=True)
    assert "etcd3 was installed over python3-etcd3" in reason()
    (link / "bin" / "python").unlink()
    assert reason() == "there is none"


def test_the_first_interpreter_that_works_is_used(make_venv: ModuleType, tmp_path: Path) -> None:
    broken = tmp_path / "shim"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    good = _interpreter(tmp_path, "python3.12", "good 3.12.1")
    candidates = ["/nonexistent", str(broken), _interpreter(tmp_path, "python3.13", "no-venv 3.13"), good]
    assert make_venv.choose([*candidates, sys.executable]) == (good, "3.12.1")


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        ("old 3.8.18", r"Python 3\.11 or newer is needed, but \S+/python3 is 3\.8\.18: install one"),
        ("no-venv 3.11", r"\S+/python3 \(Python 3\.11\) cannot make virtualenvs .* apt install python3-venv"),
        ("", r"Python 3\.11 or newer is needed, and \S+/python3 is none: install one"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(
    make_venv: ModuleType, tmp_path: Path, answer: str, advice: str
) -> None:
    python = _interpreter(tmp_path, "python3", answer)
    with pytest.raises(SystemExit, match=advice) as ended:
        make_venv.choose([python])
    assert "\n" not in str(ended.value)


def test_a_virtualenv_of_the_users_own_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = subprocess.run(
        [sys.executable, str(TOOLS / "make_venv.py"), "--link", str(tmp_path / "mine")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_old_python_understands_the_first_file_that_it_is_given() -> None:
    """Python 2.7 is rarely at hand, so: nothing in it that came later."""
    tree = ast.parse((TOOLS / "make_venv.py").read_text(), feature_version=(3, 7))
    later = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Nonlocal, ast.Starred)
    assert [type(node).__name__ for node in ast.walk(tree) if isinstance(node, later)] == []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        assert function.returns is None, function.name
        assert not function.args.kwonlyargs, function.name
        assert not any(argument.annotation for argument in function.args.args), function.name
    assert not any(node.cause for node in ast.walk(tree) if isinstance(node, ast.Raise))


def test_switching_over_replaces_the_link_and_removes_what_nobody_uses(
    environment: ModuleType, tmp_path: Path
) -> None:
    builds = tmp_path / ".venvs"
    for name in ("build-old", "build-failed", "build-new", "build-other"):
        (builds / name).mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(".venvs/build-old")
    (builds / "python3.12").symlink_to("build-other")
    environment.switch_over(tmp_path / ".venv", builds / "build-new")
    assert (tmp_path / ".venv").readlink() == Path(".venvs/build-new")
    assert sorted(path.name for path in builds.iterdir()) == ["build-new", "build-other", "python3.12"]


def test_an_attempt_that_fails_leaves_the_old_virtualenv_and_nothing_else(
    environment: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / ".venvs" / "build-old").mkdir(parents=True)
    (tmp_path / ".venv").symlink_to(".venvs/build-old")
    with pytest.raises(environment.BuildFailed), environment.new_build() as folder:
        (folder / "lib").mkdir(parents=True)
        raise environment.BuildFailed
    assert (tmp_path / ".venv").readlink() == Path(".venvs/build-old")
    assert [path.name for path in (tmp_path / ".venvs").iterdir()] == ["build-old"]


def test_when_pip_fails_its_last_lines_and_the_advice_are_shown(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", _interpreter(tmp_path, "python", "made"))
    (tmp_path / "bin").mkdir()
    _interpreter(tmp_path / "bin", "python", "'ERROR: no connection'; exit 1")
    with pytest.raises(
        environment.BuildFailed, match=r"ERROR: no connection\nleaderjob: pip could not install"
    ):
        environment.build(tmp_path, "dev", constraints=None)
