"""Build a virtualenv with the project in it, beside the one in use, and switch over when it is complete.

    python environment.py LINK EXTRAS FINGERPRINT

Called by ``make_venv.py``. A virtualenv cannot be renamed (its scripts name its path), so each one is built
in a directory of its own under ``.venvs/`` and ``LINK`` is a symbolic link that is renamed into place.
An attempt that failed or was interrupted therefore never counts, and the old one stays until then.
"""

import argparse
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILDS = ROOT / ".venvs"
STAMP = "leaderjob-venv.json"
CONSTRAINTS = ROOT / "constraints.txt"
_TOLD_LINES = 12


class BuildFailed(Exception):
    """A step failed; the message has its last lines and a sentence that says what to do."""


def build(folder: Path, extras: str, *, constraints: Path | None) -> None:
    """A virtualenv in ``folder`` with the project, editable, and its ``extras``. :raises BuildFailed:"""
    _step(
        [sys.executable, "-I", "-m", "venv", str(folder)],
        "this Python cannot make virtualenvs: install its venv and ensurepip modules (Debian, Ubuntu: "
        "apt install python3-venv), and see that there is room on the disk",
    )
    pip = [str(folder / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    pinned = [f"--constraint={constraints}"] if constraints else []
    _step(
        [*pip, "install", "--quiet", *pinned, "--editable", f"{ROOT}[{extras}]"],
        "pip could not install the project and what it depends on (its last lines are above): if it did not "
        "reach a package index, connect this machine to one (pip obeys PIP_INDEX_URL and HTTPS_PROXY) and run "
        "this again",
    )


@contextmanager
def new_build() -> Iterator[Path]:
    """The path of a new directory under ``.venvs/``; what is there is removed if the block fails."""
    folder = BUILDS / f"build-{secrets.token_hex(4)}"
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def only_one() -> Iterator[bool]:
    """Two builds at a time would remove each other's directories: the second waits, and is told so by True."""
    BUILDS.mkdir(exist_ok=True)
    with (BUILDS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            waited = False
        except BlockingIOError:
            print("leaderjob: waiting for another build in this directory", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
            waited = True
        yield waited


def switch_over(link: Path, folder: Path) -> None:
    """Let ``link`` point to ``folder`` in one step, then remove the builds that no link points to."""
    link.parent.mkdir(exist_ok=True)
    fresh = link.with_name(f"{link.name}.{secrets.token_hex(4)}")
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)
    links = [path for path in (ROOT / ".venv", *BUILDS.iterdir()) if path.is_symlink()]
    in_use = {path.resolve() for path in links}
    for other in BUILDS.glob("build-*"):
        if other.resolve() not in in_use:
            shutil.rmtree(other)


def _step(command: list[str], advice: str) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last_lines = "\n".join(f"  {line}" for line in done.stdout.strip().splitlines()[-_TOLD_LINES:])
        raise BuildFailed(f"{last_lines}\nleaderjob: {advice}.")


def _is_stamped(link: Path, stamp: str) -> bool:
    path = link / STAMP
    return path.exists() and path.read_text() == stamp


def main() -> None:
    parser = argparse.ArgumentParser(description="Build a virtualenv and switch over to it.")
    parser.add_argument("link", type=Path)
    parser.add_argument("extras")
    parser.add_argument("fingerprint")
    options = parser.parse_args()
    version = ".".join(str(part) for part in sys.version_info[:3])
    stamp = (
        json.dumps({"fingerprint": options.fingerprint, "extras": options.extras, "version": version}) + "\n"
    )
    try:
        with only_one() as waited:
            if waited and _is_stamped(options.link, stamp):
                return
            with new_build() as folder:
                build(folder, options.extras, constraints=CONSTRAINTS)
                (folder / STAMP).write_text(stamp)
                switch_over(options.link, folder)
    except BuildFailed as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
