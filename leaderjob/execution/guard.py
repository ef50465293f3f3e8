"""The guard: parent of one worker, and the reason why it surely ends.

It runs by itself, ``python -I -S start_guard.py``, with the standard library only and without asyncio: about
10 MB. It runs no job code, so nothing that a job does can starve it. ``protocol.py`` describes what is
spoken on its pipes and its arguments.

It is the subreaper of all that the worker starts, so a double fork or ``setsid`` does not escape: every
descendant stays in its process tree, and is killed until the kernel says that no child is left. That
happens when the deadline passes, when the pipe from the replica closes (the replica is dead), when the
replica asks, and to what the worker leaves behind. Its cgroup, if the replica could make one, helps.

After its replica's death it stays for a while, to attest to whoever connects that all is reaped.
"""
# Its worker waits for what is imported here, and its memory is counted: no pathlib (a fifth of it), no socket, no
# typing; and json while the worker starts.
# ruff: noqa: PLC0415, PTH106, PTH123

import _socket
import ctypes
import errno
import fcntl
import os
import select
import signal
import time

if __package__:
    from leaderjob.execution.process_tree import (
        descendants,
        has_children,
        is_descendant,
        is_resource_tracker,
        kill_if,
    )
else:  # it runs, and finds the file beside this one
    from process_tree import (  # type: ignore[import-not-found,no-redef]
        descendants,
        has_children,
        is_descendant,
        is_resource_tracker,
        kill_if,
    )

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

POLL_S = 0.1  # poll(2) does not count suspend, CLOCK_BOOTTIME does: look at the clock this often
BEAT_S = 0.25
REAP_BOUND_S = 10.0
TRACKER_GRACE_S = 1.0
EXEC_FAILED = 127

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_STAY_WHEN_ASKED_TO_GO_S = 2.0


class SpawnFailed(Exception):
    """The worker could not be started."""


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def put(cgroup: str, file: str, value: bytes) -> None:
    """Write to a cgroup's file. Where there is no such thing, the walk through /proc has to do."""
    try:
        with open(f"{cgroup or os.devnull}/{file}", "wb", buffering=0) as opened:
            opened.write(value)
    except OSError:
        return


def remove(cgroup: str) -> None:
    try:
        os.rmdir(cgroup)
    except OSError:  # there is none, or the job has made some of its own below it
        return


def spawn(command: list[str], descriptors: list[int], cgroup: str) -> int:
    """Start the worker in its own session, and in a cgroup if there is one, and return its pid.

    :param descriptors: its standard input, output and error; and more, which stay open under their own number.
    :raises SpawnFailed: it did not start.
    """
    guard = os.getpid()
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    error_read, error_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_worker(command, guard, descriptors, cgroup, error_write)
    for descriptor in {error_write, *descriptors}:
        os.close(descriptor)
    problem = os.read(error_read, 4096)
    os.close(error_read)
    if problem:
        os.waitpid(pid, 0)
        raise SpawnFailed(problem.decode(errors="replace"))
    return pid


def _become_worker(
    command: list[str], guard: int, descriptors: list[int], cgroup: str, error_write: int
) -> "NoReturn":
    try:
        os.setsid()
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the line above took effect
            os._exit(EXEC_FAILED)
        put(cgroup, "cgroup.procs", b"0")
        for number in (*_IGNORED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        for standard, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, standard)
        for descriptor in descriptors[3:]:
            os.set_inheritable(descriptor, True)
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:
        os.write(error_write, f"cannot run {command[0]}: {error}".encode())
    finally:
        os._exit(EXEC_FAILED)


class Guard:
    """One worker's life: spawn, watch, stop, kill, reap, report."""

    def __init__(self, deadline: float | None, grace_s: float, attest: "Attest | None", cgroup: str) -> None:
        self.attest = attest
        self.cgroup = cgroup
        self.deadline = deadline
        self.grace_s = grace_s
        self.worker = 0
        self.status: int | None = None
        self.cause = "exit"
        self.max_rss_bytes = 0
        self.orphaned = False
        self._kill_at: float | None = None
        self._last_beat = 0.0
        self._spare_until: float | None = None
        self._unread = b""
        self._poll = select.poll()

    def run(self, command: list[str], descriptors: list[int]) -> None:
        """Return when nothing is left to do, nor to attest."""
        end = self._live(command, descriptors)
        # A replica that is dying may have closed this pipe, and not yet the one for reports.
        if (not self._report(end) or self.orphaned) and end.get("reaped", True):
            remove(self.cgroup)
            if self.attest is not None:
                self.attest.run()

    def _live(self, command: list[str], descriptors: list[int]) -> dict[str, object]:
        """The worker's whole life; returns the last report on it."""
        if self.deadline is not None and boottime() >= self.deadline:
            return {"type": "refused", "reason": "the deadline has passed"}
        try:
            prctl(_PR_SET_CHILD_SUBREAPER, 1)
            self.worker = spawn(command, descriptors, self.cgroup)
        except (OSError, SpawnFailed) as error:
            return {"type": "failed", "reason": str(error)}
        self._report({"type": "started", "pid": self.worker})
        self._watch()
        reaped = self._clear()
        return {
            "type": "exited",
            "cause": self.cause,
            "status": self.status,
            "max_rss_bytes": self.max_rss_bytes,
            "reaped": reaped,
        }

    def _watch(self) -> None:
        """Until the worker has ended or has to be killed."""
        self._poll.register(0, select.POLLIN)
        worker_ended = None
        try:
            worker_ended = os.pidfd_open(self.worker)
            self._poll.register(worker_ended, select.POLLIN)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
        while True:
            self._reap()
            now = boottime()
            if self.status is not None or now >= self._stop_as_due(now):
                break
            self._beat(now)
            self._listen(now)
        if worker_ended is not None:
            os.close(worker_ended)

    def _stop_as_due(self, now: float) -> float:
        """Ask the worker to stop if that is due; returns when it has to be killed.

        Who was asked is not spared by a deadline that moves on afterwards: a job that heeds TERM has left
        half of its work undone by then. A restart is a matter of the replica, with a guard of its own.
        """
        if self._kill_at is None and self.deadline is not None and now >= self.deadline - self.grace_s:
            self._stop("deadline", self.deadline)
        limits = [limit for limit in (self._kill_at, self.deadline) if limit is not None]
        return min(limits, default=float("inf"))

    def _stop(self, cause: str, kill_at: float) -> None:
        if self._kill_at is None:
            self.cause = cause
            # To the worker alone: it knows how to stop its own children. What is left gets SIGKILL.
            os.kill(self.worker, signal.SIGTERM)
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _listen(self, now: float) -> None:
        due = [limit for limit in (self._kill_at, self.deadline) if limit is not None]
        if self.deadline is not None and self._kill_at is None:
            due.append(self.deadline - self.grace_s)
        timeout_s = max(0.0, min([POLL_S, *(limit - now for limit in due)]))
        for descriptor, _ in self._poll.poll(timeout_s * 1000):
            if descriptor == 0:
                self._read_orders()

    def _read_orders(self) -> None:
        try:
            received = os.read(0, 65536)
        except OSError:  # a socket whose other end closed with unread bytes
            received = b""
        if not received:
            self.orphaned = True
            self._stop("replica", 0.0)
            return
        import json

        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            try:
                order = json.loads(line)
                if "deadline" in order:
                    self.deadline = None if order["deadline"] is None else float(order["deadline"])
                if "stop" in order:
                    self._stop("stop", boottime() + float(order["stop"]))
            except (ValueError, TypeError):  # a replica that is not understood cannot be trusted to ask
                self._stop("replica", 0.0)

    def _reap(self) -> bool:
        """Collect every child that has ended. False once there is no child at all."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return False
            if ended is None:
                return True
            if ended.si_pid == self.worker:
                self._end_group()
            _, status, usage = os.wait4(ended.si_pid, 0)
            self.max_rss_bytes = max(self.max_rss_bytes, usage.ru_maxrss * 1024)
            if ended.si_pid == self.worker:
                self.status = status

    def _end_group(self) -> None:
        """At once, because a process that flees by forking again and again is faster than a walk through
        /proc. The worker is dead but not yet reaped, so its pid names no other group."""
        if not has_children(but=self.worker):
            return
        self._signal_group(
            signal.SIGSTOP
        )  # frozen, none of them can fork while this looks for what is spared
        spared = self._spared()
        if not spared:
            self._signal_group(signal.SIGKILL)
            return
        self._kill_all_but(spared)
        for pid in spared:
            try:
                os.kill(pid, signal.SIGCONT)
            except (ProcessLookupError, PermissionError):
                continue  # it has ended, or is out of reach

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.worker, number)
        except PermissionError:
            return  # none of it is within reach

    def _spared(self) -> list[int]:
        """Resource trackers of the worker: when all others are dead they remove what these left in /dev/shm, and end.

        They have a second for it, and never longer than until the deadline: anything may call itself one.
        """
        now = boottime()
        if self._spare_until is None:
            self._spare_until = now + TRACKER_GRACE_S
        if now >= self._spare_until or (self.deadline is not None and now >= self.deadline):
            return []
        if not has_children(but=0):
            return []
        return [pid for pid in descendants(os.getpid()) if is_resource_tracker(pid)]

    def _kill_all_but(self, spared: list[int]) -> None:
        me = os.getpid()
        for pid in descendants(me):
            if pid not in spared:
                kill_if(pid, lambda pid: is_descendant(pid, me))

    def _clear(self) -> bool:
        """Kill and reap all descendants. Whether none is left: False if some do not die in time."""
        give_up_at = boottime() + REAP_BOUND_S
        spared = self._spared()
        if not spared:
            put(self.cgroup, "cgroup.kill", b"1")
        while self._reap():
            if spared:
                spared = self._spared()
                if not spared:
                    put(self.cgroup, "cgroup.kill", b"1")
            self._kill_all_but(spared)
            now = boottime()
            if now >= give_up_at:
                return False
            self._beat(now)
            time.sleep(0.002)
        return True

    def _beat(self, now: float) -> None:
        if now - self._last_beat < BEAT_S:
            return
        self._last_beat = now
        try:
            os.write(1, b'{"type": "beat"}\n')
        except OSError:
            return  # nobody reads, or nobody is there: the other pipe tells which

    def _report(self, message: dict[str, object]) -> bool:
        """Send what must not be lost: waits while a stopped replica does not read. False: the replica is dead."""
        import json

        line = json.dumps(message).encode() + b"\n"
        writable = select.poll()
        writable.register(1, select.POLLOUT)
        while True:
            try:
                os.write(1, line)
                return True
            except BlockingIOError:
                writable.poll()
            except OSError:
                return False


class Attest:
    """Tells whoever connects that no process of the attempt is left.

    :param listener: descriptor of a listening socket; who connects earlier waits in its queue.
    """

    def __init__(self, listener: int, nonce: str, stay_s: float) -> None:
        os.set_inheritable(listener, False)  # the worker must not keep it open
        self._socket = _socket.socket(fileno=listener)
        self._line = b'{"reaped": "%s"}\n' % nonce.encode()
        self._stay_s = stay_s
        self._asked_to_go = False
        signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._asked_to_go = True

    def run(self) -> None:
        """Until nobody can be waiting any more. Where a service manager wants this process to end, as it does
        before it starts the replica again, for two seconds at most."""
        since = boottime()
        waiting = select.poll()
        waiting.register(self._socket.fileno(), select.POLLIN)
        while boottime() < since + self._stay_s:
            if self._asked_to_go:
                self._stay_s = min(self._stay_s, _STAY_WHEN_ASKED_TO_GO_S)
            if not waiting.poll(POLL_S * 1000):
                continue
            try:
                connection, _ = self._socket._accept()  # type: ignore[attr-defined]
                os.write(connection, self._line)
                os.close(connection)
            except OSError:
                continue  # it did not wait


def main(arguments: list[str]) -> None:
    deadline, grace_s, attest, cgroup, descriptors, *command = arguments
    for number in _IGNORED:  # a Ctrl-C in a terminal must not end the guard before its work is done
        signal.signal(number, signal.SIG_IGN)
    attestation = None
    if attest != "none":
        listener, nonce, stay_s = attest.split(",")
        attestation = Attest(int(listener), nonce, float(stay_s))
    fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)
    guard = Guard(None if deadline == "none" else float(deadline), float(grace_s), attestation, cgroup)
    guard.run(command, [int(descriptor) for descriptor in descriptors.split(",")])
