"""What is published can be built, and installed where nothing of ours is."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from leaderjob.version import __version__

_ROOT = Path(__file__).parents[2]


def done(command: Sequence[str | Path], cwd: Path, timeout_s: float = 300.0, **more: str) -> str:
    """What it prints. Nothing of this checkout is on its path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LEADERJOB_", "PYTHON")) and name != "VIRTUAL_ENV"
    }
    found = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert found.returncode == 0, f"{command}: {found.stdout[-2000:]}\n{found.stderr[-4000:]}"
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the source distribution."""
    directory = tmp_path_factory.mktemp("dist")
    done([sys.executable, "-m", "hatchling", "build", "-d", directory], _ROOT)
    return directory


def test_the_source_distribution_has_what_it_takes_to_test_and_deploy(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    top = f"leaderjob-{__version__}"
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    for wanted in (
        "pyproject.toml",
        "Makefile",
        "constraints.txt",
        "LICENSE",
        "README.md",
        "leaderjob/app.py",
        "jobs/search_index.py",
        "tests/conftest.py",
        "docs/deploy.md",
        "tools/make_venv.py",
    ):
        assert f"{top}/{wanted}" in names


def test_the_wheel_claims_no_name_but_its_own(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        tops = {name.split("/")[0] for name in file.namelist()}
    assert tops == {"leaderjob", f"leaderjob-{__version__}.dist-info"}


@pytest.mark.slow
def test_the_wheel_runs_the_demo_in_an_empty_environment_from_another_directory(
    built: Path, tmp_path: Path
) -> None:
    (wheel,) = built.glob("*.whl")
    environment, elsewhere, corpus = tmp_path / "venv", tmp_path / "elsewhere", tmp_path / "corpus"
    elsewhere.mkdir()
    corpus.mkdir()
    (corpus / "whales.txt").write_text("Whales sing below the water.\n")
    done([sys.executable, "-m", "venv", environment], elsewhere)
    constraints = ("--constraint", _ROOT / "constraints.txt")
    pip = [environment / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *constraints]
    done([*pip, f"{wheel}[demo]"], elsewhere)
    program = environment / "bin" / "leaderjob"
    assert done([program, "--version"], elsewhere).split()[-1] == __version__
    shown = json.loads(
        done(
            [program, "demo", "--exit", "--json", "--corpus", corpus],
            elsewhere,
            XDG_STATE_HOME=str(tmp_path / "state"),
        )
    )
    assert [build["version"] for build in shown["builds"]] == [1, 2]
    assert all(follower["verified"] for follower in shown["followers"].values())
