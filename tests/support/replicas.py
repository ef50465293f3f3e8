"""Replicas as real processes, signalled as operating systems do and looked at from outside: through the
feed of :class:`leaderjob.client.Client`, the command line, and the files that jobs leave."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from leaderjob.client import Client
from leaderjob.embedded.child import spawn
from leaderjob.etcd import Etcd
from leaderjob.model.run import Run, State
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.narrate import leader_facts
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events
from tests.support.commands import Said, environment, said
from tests.support.streams import run_with_streams

SHORT_TTL_S = 3
"""A TTL that can be waited for. Leaders trust themselves for 2.25 s after a keepalive then."""

_TOLD_CHARS = 6000


class Replica:
    """``leaderjob run``, with a state directory and a log of its own. It cannot outlive the tests.

    ``settings`` go to its environment when it is started, such as ``LEADERJOB_REPLICA_PRIORITY``.
    """

    def __init__(self, name: str, directory: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.state_dir = directory / name
        self.log_path = directory / f"{name}.log"
        self.settings: dict[str, str] = {}
        self._directory = directory
        self._command = [sys.executable, "-m", "leaderjob", "run", "--id", name]
        self._command += ["--state-dir", str(self.state_dir), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.runs, f"{self.name} runs already"
        with self.log_path.open("ab") as log:
            self._process = spawn(
                self._command, log, environment=environment(**self.settings), cwd=self._directory
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.process.kill()
        self.process.wait()

    def terminate(self, *, within_s: float = 10.0) -> int:
        """SIGTERM; returns the exit code. :raises subprocess.TimeoutExpired: it goes on."""
        self.send(signal.SIGTERM)
        return self.process.wait(within_s)

    def jobs(self) -> set[str]:
        """The jobs that it found when it was started."""
        return set(re.findall(r" replica_started .*\bjobs=(\S+)", self.log())[-1].split(","))

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""


class Cluster:
    """Replicas in one namespace of a running etcd; a context manager that leaves none of them behind.

    :param endpoint: of etcd, or all of them, comma-separated.
    :param directory: the replicas' current directory, where job modules are looked for first.
    :param jobs: the job modules, comma-separated.
    :param jobs_of: other ones for single replicas.
    :param config: more settings, in the form of ``leaderjob.toml``.
    """

    def __init__(
        self,
        endpoint: str,
        namespace: str,
        directory: Path,
        *,
        jobs: str,
        jobs_of: Mapping[str, str] = MappingProxyType({}),
        names: Sequence[str] = ("r1", "r2", "r3"),
        ttl_s: int = 10,
        config: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.namespace = namespace
        self.directory = directory
        self.keys = Keys(namespace)
        directory.mkdir(parents=True, exist_ok=True)
        settings = directory / "settings.toml"
        settings.write_text(config)
        arguments = [*self.target, "--ttl", f"{ttl_s}s", "--config", str(settings)]
        self.replicas = {
            name: Replica(name, directory, [*arguments, "--jobs", jobs_of.get(name, jobs)]) for name in names
        }

    @property
    def endpoints(self) -> list[str]:
        return self.endpoint.split(",")

    @property
    def target(self) -> list[str]:
        return ["--etcd", self.endpoint, "--namespace", self.namespace]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for replica in self.replicas.values():
            if replica.runs:
                replica.kill()
        if error is None:
            incomplete = [
                line for replica in self.replicas.values() for line in lines_that_lack(replica.log())
            ]
            assert incomplete == [], "events that lack fields which they always have"

    def __getitem__(self, name: str) -> Replica:
        return self.replicas[name]

    def start(self, *names: str) -> Self:
        """Start these replicas (all if none is named); returns when all are candidates and one leads."""
        for name in names or self.replicas:
            self[name].start()
        running = {name for name, replica in self.replicas.items() if replica.runs}

        def all_take_part(view: View) -> bool:
            if not all(self._is_new(view, name) for name in running):
                return False
            incarnations = {view.members[name].record.incarnation for name in running}
            candidates = {stored.record.incarnation for stored in view.records[Kind.CANDIDATE].values()}
            # A dead leader may have had the name of one that was started just now.
            leader = view.leader if leads(view) else None
            return (
                candidates >= incarnations
                and leader is not None
                and leader.record.incarnation in incarnations
                and view.specs.keys() >= self[leader.record.replica].jobs()
            )

        self.until(f"{sorted(running)} are candidates and one leads", all_take_part, timeout_s=20)
        return self

    def until(self, what: str, condition: Callable[[View], bool], *, timeout_s: float = 15.0) -> View:
        """What the feed shows once the condition holds.

        :raises AssertionError: it did not in time; the message has what the replicas wrote.
        """

        async def follow() -> View:
            async with (
                Client(self.endpoints, self.namespace) as client,
                aclosing(client.follow()) as batches,
            ):
                async for _, view in batches:
                    if condition(view):
                        return view
            raise AssertionError("a feed does not end")

        try:
            return run_with_streams(follow(), timeout_s=timeout_s)
        except TimeoutError:
            raise AssertionError(f"after {timeout_s:g} s not so: {what}\n{self.logs()}") from None

    def complete(self) -> Self:
        """Start those that do not run."""
        ended = [name for name, replica in self.replicas.items() if not replica.runs]
        return self.start(*ended) if ended else self

    def watched(self) -> Self:
        """Return once each candidate holds a stream to the one before it, as long as nobody is dead.

        Before that, the crash of a leader is told by its TTL alone. No record says so: the operating
        system does.
        """
        candidates = sorted(
            self.view().records[Kind.CANDIDATE].values(), key=lambda stored: stored.create_revision
        )
        ports = {int(stored.record.addresses["liveness"].rpartition(":")[2]) for stored in candidates[:-1]}
        give_up_at = time.monotonic() + 15.0
        while not ports <= _connected_ports():
            assert time.monotonic() < give_up_at, f"nobody holds a stream to one of {ports}\n{self.logs()}"
            time.sleep(0.01)
        return self

    def view(self) -> View:
        return self.until("etcd answers", lambda view: True)

    def leader(self) -> Replica:
        """Who leads, once somebody does."""
        name = leads(self.until("somebody leads", lambda view: leads(view) is not None))
        assert name is not None
        return self[name]

    def followers(self) -> list[Replica]:
        leader = self.leader()
        return [replica for replica in self.replicas.values() if replica.runs and replica is not leader]

    def next_leader(self, after: str, *, timeout_s: float = 15.0) -> Replica:
        """Who leads, once it is somebody else than ``after``."""
        view = self.until(
            f"another than {after} leads", lambda view: leads(view) not in (None, after), timeout_s=timeout_s
        )
        return self[str(leads(view))]

    def cli(self, command: str, *arguments: str) -> Said:
        """A command on this cluster, in this process: quicker than in one of its own."""
        return said([command, *arguments, *self.target])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cli("status", "--json").stdout)
        return found

    def trigger(self, job: str, **params: Any) -> str:
        """The run's id, once the leader has admitted it."""

        async def ask() -> str:
            async with Client(self.endpoints, self.namespace) as client:
                return await client.trigger(job, params)

        return run_with_streams(ask())

    def ended(self, job: str, run: str, *, timeout_s: float = 15.0) -> Run:
        """The record of a run, once it is over."""
        view = self.until(
            f"run {run} of {job} is over",
            lambda view: (
                (found := view.get(Kind.RUN, job, run)) is not None and found.record.state is State.DONE
            ),
            timeout_s=timeout_s,
        )
        stored = view.get(Kind.RUN, job, run)
        assert stored is not None
        record: Run = stored.record
        return record

    def serves(self, job: str, version: int, *, names: Sequence[str] = (), timeout_s: float = 15.0) -> View:
        """The view in which these replicas (all that run if none is named) have the version activated."""
        wanted = set(names) or {name for name, replica in self.replicas.items() if replica.runs}
        return self.until(
            f"{sorted(wanted)} serve version {version} of {job}",
            lambda view: all(
                self._is_new(view, name) and served(view, name, job) == version for name in wanted
            ),
            timeout_s=timeout_s,
        )

    def _is_new(self, view: View, name: str) -> bool:
        """Whether a member's record is that of the process which runs now, and not of one before."""
        member = view.members.get(name)
        return member is not None and member.record.pid == self[name].process.pid

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n{replica.log()[-_TOLD_CHARS:]}" for name, replica in self.replicas.items()
        )

    def put(self, key: str, value: bytes) -> None:
        """Write a key as anybody could who reaches etcd."""

        async def write() -> None:
            async with Etcd(self.endpoints) as etcd:
                await etcd.put(key, value)

        run_with_streams(write())


def lines_that_lack(log: str) -> list[str]:
    """The lines of a log (as text) with events that lack a field which such an event always has."""
    always = {event.name.lower(): event.always for event in Events}
    found = []
    for line in log.splitlines():
        told = re.match(r"[0-9:.]{12} [A-Z]+ +\S+ ([a-z_]+)(?: |$)(.*)", line)
        if told and not all(f" {field}=" in f" {told[2]}" for field in always.get(told[1], ())):
            found.append(line)
    return found


def _connected_ports() -> set[int]:
    """The ports of this host, over IPv4, to which a connection is established: proc_net_tcp(5)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(fields[2].rpartition(":")[2], 16) for fields in lines if fields[3] == "01"}


@contextmanager
def told(cluster: Cluster) -> Iterator[Cluster]:
    """Print what the replicas wrote during a test, behind it: pytest shows that where the test failed."""
    begun = {name: len(replica.log()) for name, replica in cluster.replicas.items()}
    try:
        yield cluster
    finally:
        for name, replica in cluster.replicas.items():
            print(f"--- {name}\n{replica.log()[begun[name] :]}")  # noqa: T201 - captured by pytest


def leads(view: View) -> str | None:
    """The replica that leads and has said so."""
    candidate, facts = view.leader, leader_facts(view)
    if candidate is None or candidate.record.leading_since is None or facts is None:
        return None
    return str(facts["replica"])


def served(view: View, replica: str, job: str) -> int | None:
    """The version of a job that a replica has activated."""
    member = view.members.get(replica)
    holding = member.record.holds.get(job) if member else None
    return holding.active if holding else None


def witnessed(effects: Path) -> list[dict[str, Any]]:
    """What the jobs of ``witnessed.py`` left in a file, in the order of time."""
    return [json.loads(line) for line in effects.read_text().splitlines()] if effects.exists() else []


def wait_for(path: Path, *, timeout_s: float = 15.0) -> str:
    """What a file says once it says anything.

    Looked at again and again: what the operating system tells of files is not the same everywhere.
    """
    give_up_at = time.monotonic() + timeout_s
    while not (path.exists() and (text := path.read_text())):
        assert time.monotonic() < give_up_at, f"nothing was written to {path} within {timeout_s:g} s"
        time.sleep(0.01)
    return text


def wait_for_line(replica: Replica, words: str, *, timeout_s: float = 15.0) -> None:
    """Return once the replica's log has these words."""
    give_up_at = time.monotonic() + timeout_s
    while words not in replica.log():
        assert time.monotonic() < give_up_at, f"{replica.name} did not say {words!r}:\n{replica.log()}"
        time.sleep(0.01)


def gone_within(pid: int, timeout_s: float) -> bool:
    """Whether a process has ended (it may be a zombie that nobody has reaped)."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)
