"""Whom a kill meets, and whom it spares."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from leaderjob.clock import boottime
from leaderjob.execution.guard import Guard
from leaderjob.execution.process_tree import is_descendant, is_resource_tracker, kill_if


@contextmanager
def running_tracker() -> Iterator[int]:
    """The pid of a resource tracker that has begun, and waits for what is said on its pipe."""
    reader, writer = os.pipe()
    code = f"from multiprocessing.resource_tracker import main; print(flush=True); main({reader})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, pass_fds=[reader]) as tracker:
        os.close(reader)
        try:
            assert tracker.stdout is not None
            tracker.stdout.readline()
            yield tracker.pid
        finally:
            os.close(writer)


def test_a_pid_that_is_not_meant_any_more_is_spared() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        kill_if(bystander.pid, lambda pid: False)
        assert bystander.poll() is None
        kill_if(bystander.pid, lambda pid: is_descendant(pid, os.getpid()))
        assert bystander.wait(timeout=10) == -signal.SIGKILL


def test_resource_tracker_is_known_by_its_arguments() -> None:
    with running_tracker() as pid:
        assert is_resource_tracker(pid)
        assert not is_resource_tracker(os.getpid())


def test_process_with_several_threads_is_no_resource_tracker() -> None:
    code = "import threading; threading.Thread(target=input).start(); print(flush=True)  # resource_tracker import main"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as several:
        assert several.stdout is not None
        several.stdout.readline()
        assert not is_resource_tracker(several.pid)


def test_resource_tracker_is_not_spared_beyond_the_deadline() -> None:
    with running_tracker() as pid:
        assert pid in Guard(boottime() + 1000, 0.0, None, "")._spared()
        assert Guard(boottime(), 0.0, None, "")._spared() == []
