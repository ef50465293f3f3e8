"""Members as machines: a network namespace each, whose own packet filter loses or rejects. Needs root."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path

from tests.faults.harness.link import Addresses
from tests.faults.harness.packets import PacketFilter
from tests.support.machines import Machine, machines, unused_network

_CLIENT_PORT = 2379
_PEER_PORT = 2380


class NamespaceLink:
    """A :class:`Link` of iptables rules inside the member's own namespace.

    :param clients: the addresses that clients come from. :param peers: those of the other members.
    :param unhurt_source: an address that no rule is about.
    """

    def __init__(
        self, machine: Machine, clients: Sequence[str], peers: Sequence[str], unhurt_source: str
    ) -> None:
        self.machine = machine
        self._clients, self._peers = tuple(clients), tuple(peers)
        client, peer = f"{machine.address}:{_CLIENT_PORT}", f"{machine.address}:{_PEER_PORT}"
        self.addresses = Addresses(client, peer, client, peer)
        self.within: Sequence[str] = ("ip", "netns", "exec", machine.namespace)
        self.unhurt_source: str | None = unhurt_source
        self._packets = PacketFilter(self.within)

    async def cut(
        self, *, clients: bool = True, peers: bool = True, sending: bool = True, hearing: bool = True
    ) -> None:
        self._packets.drop(self._addresses(clients=clients, peers=peers), sending=sending, hearing=hearing)

    async def reject(self, *, clients: bool = True, peers: bool = True) -> None:
        self._packets.reject(self._addresses(clients=clients, peers=peers))

    async def heal(self) -> None:
        self._packets.clear()

    def _addresses(self, *, clients: bool, peers: bool) -> list[str]:
        return [*self._clients] * clients + [*self._peers] * peers


@contextmanager
def namespace_links(names: Sequence[str], directory: Path) -> Iterator[dict[str, NamespaceLink]]:
    network = unused_network()
    ours, unhurt = str(network[1]), str(network[2])
    addresses = {name: str(network[10 + number]) for number, name in enumerate(names)}
    clients = (ours, str(clients_of(network)))
    with machines(addresses, directory, ours=(ours, unhurt)) as made:
        yield {
            name: NamespaceLink(
                machine, clients, [other for peer, other in addresses.items() if peer != name], unhurt
            )
            for name, machine in made.items()
        }


def clients_of(network: IPv4Network) -> IPv4Network:
    """Where machines that are clients of the members have their addresses."""
    return list(network.subnets())[1]
