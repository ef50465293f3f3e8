"""What systemd is told, on a real socket; and what it can be misunderstood to have said."""

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.errors import SettingsError
from leaderjob.systemd import Systemd, Unheard
from tests.support.loop import run_async


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """``NOTIFY_SOCKET`` as systemd would set it, and the socket behind it."""
    name = f"leaderjob-test-{secrets.token_hex(8)}"
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path if request.param == "path" else f"\0{name}")
        listening.settimeout(10)
        yield path if request.param == "path" else f"@{name}", listening


async def _up() -> None:
    pass


@pytest.mark.timeout_s(10)
async def test_it_is_told_that_we_are_up_then_again_and_again_that_we_live_then_that_we_leave(
    manager: tuple[str, socket.socket],
) -> None:
    address, listening = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    systemd = Systemd.from_environment(environment)

    listening.setblocking(False)
    loop = asyncio.get_running_loop()
    telling = asyncio.create_task(systemd.keep_told(_up))
    heard = [await loop.sock_recv(listening, 100) for _ in range(4)]
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    assert heard == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    systemd.stopping()
    listening.setblocking(True)
    while (last := listening.recv(100)) == b"WATCHDOG=1":
        pass
    assert last == b"STOPPING=1"


@pytest.mark.timeout_s(10)
async def test_it_is_told_nothing_before_we_are_up(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager

    waiting = asyncio.Event()

    async def never() -> None:
        waiting.set()
        await asyncio.Event().wait()

    telling = asyncio.create_task(Systemd(address, watchdog_s=0.001).keep_told(never))
    await waiting.wait()
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(100)


def test_a_job_cannot_speak_for_the_replica() -> None:
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/root"}
    Systemd.from_environment(environment)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "1000"}])
def test_without_a_socket_nobody_is_told_anything(environment: dict[str, str]) -> None:
    systemd = Systemd.from_environment(environment)
    run_async(systemd.keep_told(_up), timeout_s=10)
    systemd.stopping()


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(manager: tuple[str, socket.socket]) -> None:
    address, listening = manager
    environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(os.getppid())}
    run_async(Systemd.from_environment(environment).keep_told(_up), timeout_s=10)
    assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, "neither a path nor '@' and an abstract name"),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30s"}, "WATCHDOG_USEC is '30s'"),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "9" * 5000}, "WATCHDOG_USEC is '9999"),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC is '0'"),
    ],
)
def test_variables_that_make_no_sense_are_named(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        Systemd.from_environment(environment)


def test_who_is_not_heard_says_so_but_leaves_all_the_same(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "nobody"))
    with pytest.raises(Unheard, match=r"could not be told READY=1 .* No such file or directory"):
        run_async(systemd.keep_told(_up), timeout_s=10)
    systemd.stopping()
