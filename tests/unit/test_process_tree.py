"""Whom a kill meets, and whom it spares."""

import os
import signal
import subprocess
import sys

from leaderjob.execution.process_tree import is_descendant, kill_if


def test_a_pid_that_is_not_meant_any_more_is_spared() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        kill_if(bystander.pid, lambda pid: False)
        assert bystander.poll() is None
        kill_if(bystander.pid, lambda pid: is_descendant(pid, os.getpid()))
        assert bystander.wait(timeout=10) == -signal.SIGKILL
