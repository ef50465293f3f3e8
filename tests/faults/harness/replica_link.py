"""What joins a replica to etcd and to the other replicas, whatever it is made of."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tests.faults.harness.aside import Aside
from tests.faults.harness.lines import Lines
from tests.faults.harness.packets import PacketFilter
from tests.support.machines import Machine


class ReplicaLink(Protocol):
    """A replica's way to the network. Faults add up until :meth:`heal`."""

    host: str
    """Where the replica listens."""
    endpoints: Sequence[str]
    """Of etcd, as the replica reaches it."""
    within: Sequence[str]
    """What a command begins with to run on the replica's machine."""

    def cut_from_etcd(self, *, sending: bool = True, hearing: bool = True) -> None:
        """Lose what the replica sends to etcd, what it is to hear from it, or both, without a word."""
        ...

    def cut_off(self) -> None:
        """Lose everything to and from everybody, without a word."""
        ...

    def reject_replicas(self) -> None:
        """Break every connection with other replicas, and refuse whoever dials, as a firewall does."""
        ...

    def heal(self) -> None:
        """Let everything through again."""
        ...


class MachineLink:
    """A :class:`ReplicaLink` of rules inside the replica's own network namespace.

    :param etcd: endpoints. :param replicas: the addresses of the other replicas' machines.
    """

    def __init__(self, machine: Machine, etcd: Sequence[str], replicas: Sequence[str]) -> None:
        self.host = machine.address
        self.endpoints = etcd
        self.within: Sequence[str] = ("ip", "netns", "exec", machine.namespace)
        self._machine = machine
        self._etcd = [endpoint.rpartition(":")[0] for endpoint in etcd]
        self._replicas = replicas
        self._packets = PacketFilter(self.within)

    def cut_from_etcd(self, *, sending: bool = True, hearing: bool = True) -> None:
        self._packets.drop(self._etcd, sending=sending, hearing=hearing)

    def cut_off(self) -> None:
        self._machine.unplug()

    def reject_replicas(self) -> None:
        self._packets.reject(self._replicas)
        self._packets.reset(self._replicas)

    def heal(self) -> None:
        self._packets.clear()
        self._machine.plug_in()


class LoopbackLink:
    """A :class:`ReplicaLink` of cuttable lines to etcd; replicas reach each other whatever is cut."""

    host = "127.0.0.1"
    within: Sequence[str] = ()

    def __init__(self, lines: Lines, aside: Aside) -> None:
        self.endpoints: Sequence[str] = lines.endpoints
        self._lines = lines
        self._aside = aside

    def cut_from_etcd(self, *, sending: bool = True, hearing: bool = True) -> None:
        async def cut() -> None:
            self._lines.cut(sending=sending, hearing=hearing)

        self._aside.run(cut())

    def cut_off(self) -> None:
        raise AssertionError(
            "nothing between replicas can be cut on loopback: mark the test with needs_machines"
        )

    def reject_replicas(self) -> None:
        raise AssertionError(
            "nothing between replicas can be cut on loopback: mark the test with needs_machines"
        )

    def heal(self) -> None:
        async def heal() -> None:
            self._lines.heal()

        self._aside.run(heal())


def machine_links(made: Mapping[str, Machine], etcd: Sequence[str]) -> dict[str, ReplicaLink]:
    """A link for each machine, by its name."""
    return {
        name: MachineLink(
            machine, etcd, [other.address for other in made.values() if other.name != machine.name]
        )
        for name, machine in made.items()
    }
