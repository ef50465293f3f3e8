"""Jobs that do what ordinary programs do."""

import argparse
import asyncio
import atexit
import concurrent.futures
import faulthandler
import logging
import logging.config
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from leaderjob import JobContext, job


def square(number: int) -> int:
    return number * number


def sleep_for_ever() -> None:
    time.sleep(1000)


@job
def maps_in_a_pool(ctx: JobContext, method: str) -> list[int]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(4))


@job
def maps_in_an_executor(ctx: JobContext) -> list[int]:
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        return list(executor.map(square, range(4)))


@job
def terminates_a_process(ctx: JobContext, method: str) -> int | None:
    process = multiprocessing.get_context(method).Process(target=sleep_for_ever)
    process.start()
    process.terminate()
    process.join()
    return process.exitcode


@job
def leaves_a_daemon_process(ctx: JobContext) -> str:
    multiprocessing.get_context("fork").Process(target=sleep_for_ever, daemon=True).start()
    return "done"


@job
def forks_from_a_thread(ctx: JobContext) -> Any:
    found = []

    def fork_and_terminate() -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(1000)
            os._exit(0)
        os.kill(pid, signal.SIGTERM)
        found.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    thread = threading.Thread(target=fork_and_terminate)
    thread.start()
    thread.join()
    return found[0]


@job
def keeps_its_own_handler_in_a_fork(ctx: JobContext) -> int:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    pid = os.fork()
    if pid == 0:
        time.sleep(1000)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@job
def forks_and_both_return(ctx: JobContext) -> Any:
    pid = os.fork()
    if pid == 0:
        ctx.progress(1, 1, "from the child")
        return "the child's"
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@job
def forks_and_the_child_raises(ctx: JobContext) -> Any:
    pid = os.fork()
    if pid == 0:
        raise ZeroDivisionError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@job
def forks_and_the_child_exits(ctx: JobContext) -> Any:
    pid = os.fork()
    if pid == 0:
        sys.exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@job
def ends_before_its_thread(ctx: JobContext) -> str:
    def write_late() -> None:
        time.sleep(0.2)
        print("the thread is done")  # noqa: T201 - jobs print

    threading.Thread(target=write_late).start()
    threading.Thread(target=sleep_for_ever, daemon=True).start()
    return "done"


@job
def exits(ctx: JobContext, code: Any = None) -> str:
    sys.exit(code)


@job
async def exits_in_a_coroutine(ctx: JobContext) -> str:
    sys.exit(0)


@job
def parses_its_arguments(ctx: JobContext) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--level", default="low")
    return [parser.parse_args().level, parser.prog, sys.argv == [__file__]]


@job
def configures_logging(ctx: JobContext, how: str) -> None:
    if how == "basic":
        logging.basicConfig(format="MINE %(message)s", level=logging.DEBUG)
    elif how == "force":
        logging.basicConfig(format="MINE %(message)s", level=logging.DEBUG, force=True)
    else:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
    logging.getLogger("own").warning("from a logger")
    ctx.log.info("from the context")


class Unspeakable(Exception):
    def __init__(self, how: str) -> None:
        self._how = how

    def __str__(self) -> Any:
        if self._how == "raises":
            raise RuntimeError("no text")
        if self._how == "exits":
            sys.exit(0)
        return {"number": 5, "surrogate": "half \udc80"}[self._how]

    __repr__ = __str__


@job
def raises_the_unspeakable(ctx: JobContext, how: str) -> None:
    raise Unspeakable(how)


@job
def raises_what_is_no_exception(ctx: JobContext, kind: str) -> None:
    class Own(BaseException): ...

    raise {"interrupt": KeyboardInterrupt, "generator": GeneratorExit, "own": Own}[kind]


@job
def goes_elsewhere(ctx: JobContext) -> str:
    os.chdir(tempfile.gettempdir())
    (ctx.artifact_dir() / "made").write_text("x")
    return "done"


@job
def closes_its_streams(ctx: JobContext) -> str:
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    return "done"


@job
def takes_its_streams_away(ctx: JobContext) -> str:
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    print("nowhere")  # noqa: T201 - jobs print
    ctx.log.info("said all the same")
    return "done"


@job
def closes_every_descriptor(ctx: JobContext) -> str:
    os.closerange(3, 256)
    for number in range(3, 20):
        (Path(os.environ["LEFT_ALONE"]) / str(number)).open("w")  # takes the numbers over
    return "done"


@job
def turns_faulthandler_on(ctx: JobContext) -> str:
    faulthandler.enable()
    faulthandler.dump_traceback_later(1000, exit=True)
    return "done"


@job
def recurses(ctx: JobContext) -> None:
    recurses.function(ctx)


@job
def returns_what_is_deep(ctx: JobContext, levels: int) -> Any:
    sys.setrecursionlimit(10**7)
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@job
def runs_a_loop(ctx: JobContext) -> str:
    async def main() -> str:
        process = await asyncio.create_subprocess_exec("true")
        return f"status {await process.wait()}"

    return asyncio.run(main())


@job
def registers_an_exit_function(ctx: JobContext) -> str:
    atexit.register(lambda: print("goodbye"))  # noqa: T201 - jobs print
    return subprocess.run(
        [sys.executable, "-c", "print('hi')"], check=True, capture_output=True
    ).stdout.decode()


@job
def starts_what_looks_like_a_tracker(ctx: JobContext, hangs: bool) -> str:
    code = "import signal, time  # resource_tracker import main\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(1000)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    if hangs:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    return "done"


@job
def leaves_shared_memory(ctx: JobContext, how: str, up: str = "") -> str:
    """Names of what it made, in its artifact directory; never unlinked by itself."""
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(create=True, size=4096)
    semaphore = multiprocessing.get_context("spawn").Semaphore()
    (ctx.artifact_dir() / "names").write_text(f"{memory.name} {semaphore._semlock.name.lstrip('/')}")
    multiprocessing.get_context("fork").Process(
        target=sleep_for_ever
    ).start()  # holds the tracker's pipe, too
    ctx.progress(1, 1)
    if how == "returns":
        os._exit(0)
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
    return memory.name
