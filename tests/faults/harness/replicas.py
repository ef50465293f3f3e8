"""Replicas on machines of their own beside an etcd of several members, and every way to break them.

::

    with fleet(tmp_path, jobs="…") as three:
        leader = three.start().leader()
        leader.link.cut_from_etcd()
        three.run(three.etcd.leader()).kill()

A replica is a process (``kill``, ``stop``, ``resume``, ``terminate``, ``start``) with a link (``cut_from_etcd``,
``cut_off``, ``reject_replicas``, ``heal``), on a machine of its own a disk (``fill``, ``make_read_only``, ``freeze``, ``mend``),
where wanted a wall clock (``set``), an event loop that stalls (``begin``, ``end``), and the processes of its workers (``children.py``).
"""

import json
import shutil
import signal
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from leaderjob.execution.process_tree import descendants
from leaderjob.records.view import View
from tests.faults.harness.aside import Aside
from tests.faults.harness.children import guards_of, is_alive, send, workers_of
from tests.faults.harness.lines import lines_to
from tests.faults.harness.loop_stall import LoopStall
from tests.faults.harness.members import Members, Network, members
from tests.faults.harness.namespaces import NamespaceLink, clients_of
from tests.faults.harness.replica_link import LoopbackLink, ReplicaLink, machine_links
from tests.faults.harness.small_disk import SmallDisk
from tests.faults.harness.wall_clock import WallClock
from tests.support.machines import machines_at
from tests.support.replicas import Cluster, Replica, leads

_T = TypeVar("_T")
NAMES = ("r1", "r2", "r3")


class MachineReplica(Replica):
    """A replica on a machine of its own.

    :param disk: where its state directory is. :param clock: what it takes for the time of day.
    :param stall: of its event loop.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        arguments: Sequence[str],
        *,
        link: ReplicaLink,
        disk: SmallDisk | None,
        clock: WallClock | None,
        stall: LoopStall,
    ) -> None:
        super().__init__(name, directory, ["--etcd", ",".join(link.endpoints), *arguments])
        self.link = link
        self.stall = stall
        self._disk, self._clock = disk, clock
        self.settings["LEADERJOB_LOG_FORMAT"] = "json"
        self.settings["LEADERJOB_REPLICA_LISTEN"] = f"{link.host}:0"
        self.settings["LEADERJOB_REPLICA_INSECURE"] = "true"
        self.settings |= stall.settings
        program, *more = [
            *(disk.within if disk else ()),
            *link.within,
            *(clock.within if clock else ()),
            *self._command,
        ]
        found = shutil.which(program)
        assert found is not None, f"{program} is not installed"
        self._command = [found, *more]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def disk(self) -> SmallDisk:
        assert self._disk is not None, (
            "only a machine of its own has a disk: mark the test with needs_machines"
        )
        return self._disk

    @property
    def clock(self) -> WallClock:
        assert self._clock is not None, "this replica has everybody's clock: give clocks=True"
        return self._clock

    @property
    def state_seen_from_outside(self) -> Path:
        return self._disk.seen_from_outside if self._disk else self.state_dir

    def events(self) -> list[dict[str, Any]]:
        """What its log says, a line each; what others wrote into it (a traceback) is left out."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith('{"time"')]

    def said(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Its events of that name which have these values."""
        return [
            line
            for line in self.events()
            if line.get("event") == event and all(line.get(name) == value for name, value in fields.items())
        ]

    def jobs(self) -> set[str]:
        return set(self.said("replica_started")[-1]["jobs"].split(","))

    def mend(self) -> None:
        """Undo what was done to its disk and its clock, and let it go on if it was stopped or held up."""
        self.stall.end()
        if self._disk is not None:
            self._disk.mend()
        if self._clock is not None:
            self._clock.set(0)
        if self.runs:
            self.send(signal.SIGCONT)
            send([*guards_of(self.pid), *workers_of(self.pid)], signal.SIGCONT)

    def lose_host(self) -> None:
        """Its machine is gone: cut off from all, and every process on it dead. ``link.heal`` brings it back."""
        self.link.cut_off()
        if self.runs:
            self.send(signal.SIGSTOP)  # it would see its guards die, and tell of it
            guards = guards_of(self.pid)
            end_below(guards)
            self.kill()
            send(guards, signal.SIGKILL)


def end_below(guards: Sequence[int]) -> None:
    """SIGKILL all that these guards have started, at once as a machine that goes does.

    Stopped, a guard keeps whatever flees by forking in its tree, where it is found the next time.
    """
    send(list(guards), signal.SIGSTOP)
    give_up_at = time.monotonic() + 5.0
    while alive := [pid for guard in guards for pid in descendants(guard) if is_alive(pid)]:
        send(alive, signal.SIGKILL)
        assert time.monotonic() < give_up_at, f"processes {alive} do not die"


class Fleet(Cluster):
    """Replicas in one namespace of ``etcd``, each reaching it over a link of its own."""

    def __init__(
        self,
        etcd: Members,
        aside: Aside,
        links: dict[str, ReplicaLink],
        directory: Path,
        *,
        jobs: str,
        ttl_s: int,
        config: str,
        disks: dict[str, SmallDisk],
        clocks: bool,
    ) -> None:
        super().__init__(
            ",".join(etcd.endpoints), "fleet", directory, jobs=jobs, names=(), ttl_s=ttl_s, config=config
        )
        self.etcd = etcd
        self.aside = aside
        self.ttl_s = ttl_s
        arguments = ["--namespace", self.namespace, "--jobs", jobs, "--ttl", f"{ttl_s}s"]
        arguments += ["--config", str(directory / "settings.toml")]
        self.replicas: dict[str, Replica] = {
            name: MachineReplica(
                name,
                directory,
                arguments,
                link=link,
                disk=disks.get(name),
                clock=WallClock(directory / f"{name}.clock") if clocks else None,
                stall=LoopStall(directory / f"{name}.stall"),
            )
            for name, link in links.items()
        }

    def __getitem__(self, name: str) -> MachineReplica:
        return cast(MachineReplica, self.replicas[name])

    def leader(self) -> MachineReplica:
        return cast(MachineReplica, super().leader())

    def next_leader(self, after: str, *, timeout_s: float = 15.0) -> MachineReplica:
        return cast(MachineReplica, super().next_leader(after, timeout_s=timeout_s))

    def every(self) -> list[MachineReplica]:
        return [self[name] for name in self.replicas]

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something to etcd, or ask it, as its harness does."""
        return self.aside.run(work)

    def mend(self) -> "Fleet":
        """Undo every fault; returns when etcd is healthy and all replicas are in line, one of them leading."""
        self.run(self.etcd.mend())
        for replica in self.every():
            replica.link.heal()
            replica.mend()
        self.complete()
        self.in_line()
        return self.watched()

    def in_line(self, *, timeout_s: float = 40.0) -> View:
        """What the feed shows once every process that runs stands for election, and one of them leads."""
        return self.until("all stand in line", self._all_stand, timeout_s=timeout_s)

    def reconfigure(self, config: str) -> None:
        """Start all replicas again, one after the other, with other settings."""
        (self.directory / "settings.toml").write_text(config)
        for replica in self.every():
            replica.terminate()
            self.start(replica.name)

    def _all_stand(self, view: View) -> bool:
        if len(view.queue) != len(self.replicas) or leads(view) is None:
            return False
        return all(
            self._is_new(view, stored.record.replica)
            and view.members[stored.record.replica].record.incarnation == stored.record.incarnation
            for stored in view.queue
        )

    def token(self) -> int:
        """That of whoever leads now."""
        kv = self.until("somebody leads", lambda view: view.leader_key is not None).leader_key
        assert kv is not None
        return kv.create_revision

    def watched(self) -> "Fleet":
        """As in :class:`Cluster`; each replica is asked on its own machine."""
        candidates = sorted(
            (stored.create_revision, stored.record.replica, stored.record.addresses["liveness"])
            for stored in self.view().queue
        )
        give_up_at = time.monotonic() + 15.0
        for (_, _, address), (_, name, _) in pairwise(candidates):
            port = int(address.rpartition(":")[2])
            while port not in _connected_ports(self[name].pid):
                assert time.monotonic() < give_up_at, f"{name} holds no stream to {address}\n{self.logs()}"
                time.sleep(0.01)
        return self


@contextmanager
def fleet(
    directory: Path,
    *,
    jobs: str,
    ttl_s: int = 5,
    config: str = "",
    names: Sequence[str] = NAMES,
    network: Network | None = None,
    binary: Path | None = None,
    quota_bytes: int | None = None,
    clocks: bool = False,
    freezable: bool = False,
    spares: int = 0,
) -> Iterator[Fleet]:
    """Three members of etcd, and replicas that are not started yet; nothing is left of them at the end.

    :param network: machines of their own where they can be made, loopback otherwise.
    :param clocks: each replica has a wall clock of its own.
    :param freezable: the replicas' disks can be frozen; needs machines of their own.
    :param spares: members of etcd that can take the place of others.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        aside = stack.enter_context(Aside())
        etcd = aside.enter(
            members(
                directory / "etcd", network=network, binary=binary, quota_bytes=quota_bytes, spares=spares
            )
        )
        first = etcd.every[0].link
        disks: dict[str, SmallDisk] = {}
        if isinstance(first, NamespaceLink):
            place = ip_network(f"{first.machine.address}/24", strict=False)
            addresses = {name: str(clients_of(place)[10 + n]) for n, name in enumerate(names)}
            made = stack.enter_context(machines_at(first.machine.switch, addresses, directory / "machines"))
            links = machine_links(made, etcd.endpoints)
            for name in names:
                log = made[name].directory / "disk.log"
                disks[name] = SmallDisk(directory / "replicas" / name, log, freezable=freezable)
                stack.callback(disks[name].unmount)
                disks[name].mount()
        else:
            links = {name: LoopbackLink(aside.enter(lines_to(etcd.every)), aside) for name in names}
        three = Fleet(
            etcd,
            aside,
            links,
            directory / "replicas",
            jobs=jobs,
            ttl_s=ttl_s,
            config=config,
            disks=disks,
            clocks=clocks,
        )
        with three:
            yield three


def _connected_ports(pid: int) -> set[int]:
    """The ports elsewhere to which the machine of that process has connections: proc_net_tcp(5)."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(fields[2].rpartition(":")[2], 16) for fields in lines if fields[3] == "01"}
