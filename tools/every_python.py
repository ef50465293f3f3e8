"""Run the unit tests on every Python that the project supports and this machine has.

Run by ``make test-all`` under the project's own virtualenv. Interpreters are looked for on PATH and where
pyenv keeps them; of each release (3.11, 3.12, ...) one is used, in a virtualenv of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_OLDEST = (3, 11)
_NEWEST_TRIED = 20  # python3.20: a bound on the names to look for
_VERSION = "import sys; print('{}.{}'.format(*sys.version_info))"


def interpreters() -> dict[str, str]:
    """Release (``3.12``) to interpreter, oldest release first; one of each that can be run."""
    found: dict[str, str] = {}
    for candidate in _candidates():
        done = subprocess.run(
            [candidate, "-I", "-c", _VERSION],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        release = done.stdout.strip()
        if done.returncode == 0 and re.fullmatch(r"3\.\d+", release) and _as_numbers(release) >= _OLDEST:
            found.setdefault(release, candidate)
    return dict(sorted(found.items(), key=lambda item: _as_numbers(item[0])))


def _candidates() -> Iterator[str]:
    for name in [f"python3.{minor}" for minor in range(_OLDEST[1], _NEWEST_TRIED + 1)] + ["python3"]:
        if path := shutil.which(name):
            yield path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from (str(path) for path in sorted(pyenv.glob("versions/*/bin/python3"), reverse=True))


def _as_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _unit_tests_pass(release: str, python: str, pytest_arguments: list[str]) -> bool:
    link = f".venvs/python{release}"
    making = [sys.executable, "tools/make_venv.py", "--extras", "dev", "--link", link, "--python", python]
    if subprocess.run(making, cwd=ROOT, check=False).returncode:
        return False
    testing = [f"{link}/bin/python", "-m", "pytest", "-q", "tests/unit", *pytest_arguments]
    return subprocess.run(testing, cwd=ROOT, check=False).returncode == 0


def main() -> None:
    verdicts = {}
    for release, python in interpreters().items():
        print(f"leaderjob: unit tests on Python {release} ({python})", flush=True)
        verdicts[release] = _unit_tests_pass(release, python, sys.argv[1:])
    for release, passed in verdicts.items():
        print(f"leaderjob: Python {release}: {'passed' if passed else 'FAILED'}")
    sys.exit(0 if verdicts and all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
