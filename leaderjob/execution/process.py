"""The replica's side of one worker: its guard, its log, its standard input, and the messages that it sends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from leaderjob.execution.attestation import Attestation
from leaderjob.execution.guarded import SILENCE_BOUND_S, Guarded, StartFailed
from leaderjob.execution.messages import ProtocolBroken
from leaderjob.execution.protocol import LINE_LIMIT_BYTES, from_line
from leaderjob.json_text import InvalidJson
from leaderjob.modules import environment_for_children
from leaderjob.sdk import Json

_LONG_BYTES = 64 * 1024


class GuardedProcess(Guarded):
    """One guard with its worker, as an async context manager: on the way out nothing of them is left.

    :param command: what to run; the number of the descriptor for its messages is appended.
    :param log_path: file to which the worker's standard output and error are appended.
    :param cwd: the worker's current directory.
    :param grace_s: from TERM to KILL, before the deadline and on the way out.

    The other parameters are those of :class:`Guarded`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_path: Path,
        cwd: Path,
        deadline: float | None,
        grace_s: float,
        silence_s: float = SILENCE_BOUND_S,
        attestation: Attestation | None = None,
    ) -> None:
        super().__init__(
            command,
            cwd=cwd,
            deadline=deadline,
            grace_s=grace_s,
            silence_s=silence_s,
            attestation=attestation,
        )
        self._log_path = log_path
        self._message_read = self._input_write = -1
        self._received: asyncio.StreamReader | None = None
        self._source: asyncio.ReadTransport | None = None
        self._sink: asyncio.WriteTransport | None = None

    def send(self, line: bytes) -> None:
        """Give the worker a line on its standard input. A worker that is gone does not read it."""
        if self._sink is not None and not self._sink.is_closing():
            self._sink.write(line)

    def end_input(self) -> None:
        """End the worker's standard input, after all that was sent."""
        if self._sink is not None and self._sink.can_write_eof() and not self._sink.is_closing():
            self._sink.write_eof()

    async def messages(self) -> AsyncIterator[dict[str, Json]]:
        """What the worker says, until no process of it holds the pipe any more.

        :raises ProtocolBroken: it is not a message, or longer than any message may be.
        """
        if self._received is None:
            raise RuntimeError("the process was not started")
        while True:
            try:
                line = await self._received.readline()
            except ValueError as error:
                raise ProtocolBroken(
                    f"the worker sent a line that is longer than any message: {error}"
                ) from error
            if not line:
                return
            # A long one is read beside the loop, which has keepalives to send.
            yield (
                read_message(line) if len(line) < _LONG_BYTES else await asyncio.to_thread(read_message, line)
            )

    def _open(self, keep: Callable[[int], int]) -> tuple[int, ...]:
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        log = keep(os.open(self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640))
        input_read, self._input_write = map(keep, os.pipe())
        self._message_read, message_write = map(keep, os.pipe())
        return input_read, log, log, message_write

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._received = received = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        # The transports own their descriptors: each gets a duplicate, who opened the originals closes them.
        reading = os.fdopen(os.dup(self._message_read), "rb", buffering=0)
        self._source, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(received), reading
        )
        writing = os.fdopen(os.dup(self._input_write), "wb", buffering=0)
        self._sink, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, writing)

    def _environment(self) -> dict[str, str]:
        return environment_for_children(os.environ)

    def _disconnect(self) -> None:
        if self._source is not None:
            self._source.close()
        if self._sink is not None and not self._sink.is_closing():
            self._sink.abort()

    def _start_failed(self, error: OSError) -> StartFailed:
        return StartFailed(f"cannot start a worker process: {error}")


def read_message(line: bytes) -> dict[str, Json]:
    """:raises ProtocolBroken: it is not a message."""
    try:
        message = from_line(line)
    except InvalidJson as error:
        raise ProtocolBroken(f"the worker sent something that is not a message: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolBroken("the worker sent something that is not a message: it is no JSON object")
    return message


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
