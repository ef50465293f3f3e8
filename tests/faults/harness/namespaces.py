"""Members as machines: a network namespace each, whose own packet filter loses or rejects. Needs root."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.harness.link import Addresses
from tests.support.machines import Machine, machines, unused_network

_CLIENT_PORT = 2379
_PEER_PORT = 2380


class NamespaceLink:
    """A :class:`Link` of iptables rules inside the member's own namespace.

    :param clients: the address that clients come from. :param peers: those of the other members.
    :param unhurt_source: an address that no rule is about.
    """

    def __init__(self, machine: Machine, clients: str, peers: Sequence[str], unhurt_source: str) -> None:
        own, self._machine = machine.address, machine
        self._clients, self._peers = clients, tuple(peers)
        client, peer = f"{own}:{_CLIENT_PORT}", f"{own}:{_PEER_PORT}"
        self.addresses = Addresses(client, peer, client, peer)
        self.within: Sequence[str] = ("ip", "netns", "exec", machine.namespace)
        self.unhurt_source: str | None = unhurt_source

    async def cut(
        self, *, clients: bool = True, peers: bool = True, sending: bool = True, hearing: bool = True
    ) -> None:
        addresses = self._addresses(clients=clients, peers=peers)
        unheard = [f"-A INPUT -s {address} -j DROP" for address in addresses]
        unsaid = [f"-A OUTPUT -d {address} -j DROP" for address in addresses]
        self._filter(unheard * hearing + unsaid * sending)

    async def reject(self, *, clients: bool = True, peers: bool = True) -> None:
        addresses = self._addresses(clients=clients, peers=peers)
        reset = "-p tcp -j REJECT --reject-with tcp-reset"
        # Our own resets must get out, or nobody would hear of them.
        other = "-p tcp ! --tcp-flags RST RST -j REJECT --reject-with tcp-reset"
        self._filter(
            [f"-A INPUT -s {address} {reset}" for address in addresses]
            + [f"-A OUTPUT -d {address} {other}" for address in addresses]
        )

    async def heal(self) -> None:
        self._filter(["-F INPUT", "-F OUTPUT"])

    def _addresses(self, *, clients: bool, peers: bool) -> list[str]:
        return [self._clients] * clients + [*self._peers] * peers

    def _filter(self, rules: Sequence[str]) -> None:
        """All of the rules at once."""
        text = "\n".join(("*filter", *rules, "COMMIT", ""))
        command = [*self.within, "iptables-restore", "--noflush"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}: {done.stderr.strip()}"


@contextmanager
def namespace_links(names: Sequence[str], directory: Path) -> Iterator[dict[str, NamespaceLink]]:
    network = unused_network()
    clients, unhurt = str(network[1]), str(network[2])
    addresses = {name: str(network[10 + number]) for number, name in enumerate(names)}
    with machines(addresses, directory, ours=(clients, unhurt)) as made:
        yield {
            name: NamespaceLink(
                machine, clients, [other for peer, other in addresses.items() if peer != name], unhurt
            )
            for name, machine in made.items()
        }
