"""The servers of the rivals: started on loopback, in temporary directories, as Debian packages them."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from contest.contestants import NotInstalled

from leaderjob.embedded.child import spawn
from leaderjob.embedded.ports import free_ports
from leaderjob.errors import LeaderjobError

_START_TIMEOUT_S = 20.0
_POLL_S = 0.05
_ZOOKEEPER_NEEDS = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "metrics-core",
    "netty-buffer",
    "netty-common",
    "netty-handler",
    "netty-transport",
    "snappy-java",
)


class ServerNotStarted(LeaderjobError):
    """A rival's server does not listen in time; the message ends with its last words."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are installed.

    :param jars: the directory with ZooKeeper's jars.
    """

    jars: Path = Path("/usr/share/java")

    @asynccontextmanager
    async def redis(self, directory: Path) -> AsyncIterator[str]:
        """``HOST:PORT``; nothing is written to the disk. :raises NotInstalled: there is none."""
        program = _program("redis-server", "apt install redis-server")
        (port,) = free_ports(1)
        options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
        async with _running([program, *options], directory, port) as address:
            yield address

    @asynccontextmanager
    async def zookeeper(self, directory: Path) -> AsyncIterator[str]:
        """``HOST:PORT``; its disk is not waited for. :raises NotInstalled: there is none."""
        how = "apt install zookeeper"
        program = _program("java", how)
        jars = [self.jars / f"{name}.jar" for name in _ZOOKEEPER_NEEDS]
        missing = [str(jar) for jar in jars if not jar.exists()]
        if missing:
            raise NotInstalled(f"there is no {', '.join(missing)}: {how}")
        (port,) = free_ports(1)
        directory.mkdir(parents=True)  # noqa: ASYNC240 - nothing is measured yet
        settings = directory / "zoo.cfg"
        settings.write_text(
            # A tick is what sessions are counted in: a short one, so that they end when they are due.
            f"tickTime=200\nmaxSessionTimeout=60000\ndataDir={directory / 'store'}\n"
            f"clientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
        )
        command = [program, "-cp", os.pathsep.join(map(str, jars)), "-Dzookeeper.forceSync=no"]
        command += ["org.apache.zookeeper.server.ZooKeeperServerMain", str(settings)]
        async with _running(command, directory, port) as address:
            yield address


def _program(name: str, how: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"there is no {name} here: {how}")
    return found


@asynccontextmanager
async def _running(command: Sequence[str], directory: Path, port: int) -> AsyncIterator[str]:
    """:raises ServerNotStarted: it ends, or nobody listens on the port in time."""
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing is measured yet
    log_path = directory / "server.log"
    with log_path.open("wb") as log:
        process = spawn(command, log, environment=os.environ, cwd=directory)
    try:
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not await _listens(port):
                    if process.poll() is not None:
                        raise ServerNotStarted(
                            _told(command, f"ended with code {process.returncode}", log_path)
                        )
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise ServerNotStarted(
                _told(command, f"did not listen after {_START_TIMEOUT_S:g} s", log_path)
            ) from None
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _told(command: Sequence[str], what: str, log_path: Path) -> str:
    words = log_path.read_text(errors="replace").splitlines()[-3:]
    return f"{Path(command[0]).name} {what}, so its rival takes no part; its last words: {' / '.join(words)}"


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
