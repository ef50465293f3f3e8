"""Who takes part, in which version, and the virtualenv that a peer runs in."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

_INSTALL_TIMEOUT_S = 300.0
_INSTALLED = "installed.txt"

OURS = "leaderjob"
LIMIT = "bare stubs"


class NotInstalled(Exception):
    """A peer cannot take part; the message says why."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One client.

    :param module: its program in ``contest.peers``.
    :param what: its version and what it stands on.
    :param requirements: what its virtualenv has in it; none: it runs in the interpreter of the benchmark.
    """

    name: str
    module: str
    what: str
    requirements: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        return self.name not in (OURS, LIMIT)


def contestants() -> Iterator[Contestant]:
    """Ours, the limit, and the peers. Where a peer stands on gRPC, it is the same version of it."""
    transport = (f"grpcio=={version('grpcio')}", f"protobuf=={version('protobuf')}")
    stubs = f"python3-etcd3 {version('python3-etcd3')}"
    yield Contestant(OURS, "with_leaderjob", f"this tree, on grpc.aio and the stubs of {stubs}")
    yield Contestant(
        LIMIT, "with_bare_stubs", f"grpc.aio {version('grpcio')} and the stubs of {stubs}: the limit"
    )
    yield Contestant("aetcd", "with_aetcd", "1.0.0, asyncio, on grpc.aio", ("aetcd==1.0.0", *transport))
    yield Contestant("python-etcd3", "with_python_etcd3", f"the client of {stubs}: threads, on blocking gRPC")
    yield Contestant(
        "etcd3gw",
        "with_etcd3gw",
        "2.7.0, threads, JSON over HTTP/1.1",
        ("etcd3gw==2.7.0", "requests==2.34.2"),
    )


def interpreter(contestant: Contestant, directory: Path) -> Path:
    """The Python that runs a contestant; its virtualenv below ``directory`` is made when it is missing.

    :raises NotInstalled: it cannot be made, or what it needs cannot be installed.
    """
    if not contestant.requirements:
        return Path(sys.executable)
    venv = directory / f"{contestant.name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, installed = venv / "bin" / "python", venv / _INSTALLED
    wanted = "\n".join(contestant.requirements)
    if not installed.is_file() or installed.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(venv))
        _run(
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *contestant.requirements,
        )
        installed.write_text(wanted)
    return python


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"pip was not done after {_INSTALL_TIMEOUT_S:g} s") from None
    except subprocess.CalledProcessError as failure:
        lines = [line for line in failure.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise NotInstalled(lines[-1].removeprefix("ERROR: ")) from failure
