"""The rules of a test session itself: nothing is skipped in CI, no process is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _session(folder: Path, source: str, *, ci: bool) -> subprocess.CompletedProcess[str]:
    """A pytest session of its own, under the rules of ``tests/conftest.py``, with one test file."""
    (folder / "test_inner.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TEST_SESSION")}
    pytest_alone = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    return subprocess.run(
        [*pytest_alone, "-p", "tests.conftest", f"--rootdir={folder}", str(folder / "test_inner.py")],
        cwd=ROOT,
        env=environment | ({"CI": "true"} if ci else {}),
        capture_output=True,
        text=True,
        check=False,
    )


SKIPPED_TEST = "import pytest\n@pytest.mark.skip(reason='no etcd here')\ndef test_x(): pass\n"
SKIPPED_FILE = "import pytest\npytest.importorskip('no_such_module')\n"


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_FILE], ids=["test", "file"])
def test_a_skip_is_a_failure_in_ci(tmp_path: Path, source: str) -> None:
    session = _session(tmp_path, source, ci=True)
    assert session.returncode != 0, session.stdout
    assert "nothing may be skipped in CI" in session.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    session = _session(tmp_path, SKIPPED_TEST, ci=False)
    assert session.returncode == 0, session.stdout
    assert "1 skipped" in session.stdout


def test_an_expected_failure_is_not_a_skip(tmp_path: Path) -> None:
    session = _session(
        tmp_path, "import pytest\n@pytest.mark.xfail\ndef test_x(): raise AssertionError\n", ci=True
    )
    assert session.returncode == 0, session.stdout


@pytest.mark.parametrize("orphaned", [False, True], ids=["child", "orphan in its own session"])
def test_a_process_that_is_left_behind_fails_the_session_and_names_the_test(
    tmp_path: Path, orphaned: bool
) -> None:
    command = ["sh", "-c", "exec sleep 60 >/dev/null 2>&1 </dev/null"]
    if orphaned:
        command = ["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 </dev/null &"]
    session = _session(
        tmp_path,
        f"import subprocess\ndef test_x():\n    global child\n    child = subprocess.Popen({command!r})\n",
        ci=False,
    )
    assert session.returncode == 1, session.stdout
    assert "LEFT BEHIND: pid" in session.stdout
    assert "test_inner.py::test_x" in session.stdout
