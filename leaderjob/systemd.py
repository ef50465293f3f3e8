"""What systemd is told of this process: that it is up, that its event loop turns, that it is leaving.

The protocol is sd_notify(3): lines in datagrams to the socket that ``NOTIFY_SOCKET`` names. Where nobody
set that variable, nothing is sent.
"""

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Self

from leaderjob.errors import LeaderjobError, SettingsError

_SOCKET = "NOTIFY_SOCKET"
_WATCHDOG_US = "WATCHDOG_USEC"
_WATCHDOG_PID = "WATCHDOG_PID"


class Unheard(LeaderjobError):
    """systemd could not be told something; where that was a sign of life, it will restart the process."""


class Systemd:
    """The service manager that started this process, or nobody.

    :param address: of its socket: a path, or ``@`` and an abstract name. None: nobody is told anything.
    :param watchdog_s: how long it waits for a sign of life before it ends the process. None: it does not.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """As the variables say, which are taken out of ``environment``: a job must not speak for the replica.

        :raises SettingsError: they cannot be understood.
        """
        address = environment.pop(_SOCKET, "")
        watchdog_us = environment.pop(_WATCHDOG_US, "")
        watched_pid = environment.pop(_WATCHDOG_PID, "")
        if not address:
            return cls(None)
        if address[0] not in "/@":
            raise SettingsError(
                f"{_SOCKET} is {address!r}, which is neither a path nor '@' and an abstract name: systemd sets "
                "this variable for services of Type=notify; unset it where something else did"
            )
        if not watchdog_us or watched_pid not in ("", str(os.getpid())):
            return cls(address)
        if not re.fullmatch("[0-9]{1,18}", watchdog_us) or int(watchdog_us) == 0:
            raise SettingsError(
                f"{_WATCHDOG_US} is {watchdog_us!r}, which is no number of microseconds: systemd sets this variable "
                "for services with WatchdogSec=; unset it where something else did"
            )
        return cls(address, int(watchdog_us) / 1_000_000)

    async def keep_told(self, up: Callable[[], Awaitable[object]]) -> None:
        """Say that this process is up once ``up`` returns, then give signs of life until cancelled.

        These are sent by the event loop, twice as often as asked for: one that is stalled sends none.

        :raises Unheard: systemd could not be told.
        """
        await up()
        self._send("READY=1")
        if self._address is None or self._watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def stopping(self) -> None:
        """Say that this process is leaving, whoever asked it to."""
        with suppress(Unheard):  # its end will say the same
            self._send("STOPPING=1")

    def _send(self, line: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)  # a manager that does not read must not stall the loop
                sender.sendto(line.encode(), address)
        except OSError as error:
            raise Unheard(
                f"systemd could not be told {line} at {self._address}: {error.strerror}. A service of Type=notify that "
                "is not heard is restarted; see that the socket can be reached from inside the sandbox"
            ) from error
