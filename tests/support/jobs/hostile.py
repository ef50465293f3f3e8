"""Jobs that misbehave, each in one way."""

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from leaderjob import JobContext, job


def _message_descriptor() -> int:
    """The pipe that the worker writes its messages to: no other one is open beside the standard streams."""
    pipes = [int(link.name) for link in Path("/proc/self/fd").iterdir() if "pipe:" in str(link.resolve())]
    (found,) = [number for number in pipes if number > 2]
    return found


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


@job
def sleeps(ctx: JobContext) -> None:
    ctx.progress(0, 1)
    time.sleep(1000)


@job
def ignores_term(ctx: JobContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    ctx.progress(0, 1)
    time.sleep(1000)


@job
def returns_early_when_cancelled(ctx: JobContext) -> str:
    ctx.progress(0, 1)
    while not ctx.cancelled:
        time.sleep(0.01)
    return "half of it"


@job
async def sleeps_in_a_coroutine(ctx: JobContext) -> None:
    ctx.progress(0, 1)
    try:
        await asyncio.sleep(1000)
    finally:
        print("cleaned up")  # noqa: T201 - jobs print


@job
def waits_for(ctx: JobContext, path: str) -> str:
    ctx.progress(0, 1)
    _wait_for(path)
    return "done"


@job
def holds_the_interpreter_lock(ctx: JobContext) -> None:
    ctx.progress(0, 1)
    re.match(r"(a+)+$", "a" * 64 + "b")


@job
def segfaults(ctx: JobContext) -> None:
    ctypes.string_at(0)


@job
def kills_itself(ctx: JobContext, number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(1000)


@job
def exits(ctx: JobContext, code: int, hard: bool) -> None:
    os._exit(code) if hard else sys.exit(code)


@job
def prints(ctx: JobContext, size_bytes: int) -> str:
    os.write(1, b'\xff\xfe{"type": "end"}\n')
    sys.stdout.write("\ud800 no text\n")
    sys.stdout.write("x" * size_bytes)
    return "printed"


@job
def returns_what_is_not_json(ctx: JobContext, kind: str) -> Any:
    endless: list[Any] = []
    endless.append(endless)
    return {"object": object(), "nan": float("nan"), "endless": endless, "large": "x" * 300_000}[kind]


@job
def leaves_a_thread(ctx: JobContext) -> str:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return "done"


@job
def breaks_the_protocol(ctx: JobContext) -> None:
    os.write(_message_descriptor(), b"nonsense\n")
    time.sleep(1000)


@job
def tells_whether_messages_are_inherited(ctx: JobContext) -> bool:
    return os.get_inheritable(_message_descriptor())
