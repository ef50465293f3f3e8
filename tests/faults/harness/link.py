"""What joins a member to the others and to its clients, whatever it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Addresses:
    """``HOST:PORT`` each: where a member listens, and where clients and the other members look for it."""

    listens_to_clients: str
    listens_to_peers: str
    for_clients: str
    for_peers: str


class Link(Protocol):
    """A member's way to the network. Faults add up until :meth:`heal`.

    ``clients`` and ``peers`` say whom a fault keeps the member from, ``sending`` and ``hearing`` which way:
    what is not to be sent, or heard, is lost without a word.
    """

    @property
    def addresses(self) -> Addresses: ...

    @property
    def within(self) -> Sequence[str]:
        """What a command begins with to run on the member's own machine, where no fault is felt."""
        ...

    @property
    def unhurt_source(self) -> str | None:
        """The address to come from to reach the member whatever is cut; None: any."""
        ...

    async def cut(
        self, *, clients: bool = True, peers: bool = True, sending: bool = True, hearing: bool = True
    ) -> None:
        """Lose what goes that way. Connections stay open, and nobody is told."""
        ...

    async def reject(self, *, clients: bool = True, peers: bool = True) -> None:
        """Reset what is connected, and refuse whoever connects, as a firewall that rejects does."""
        ...

    async def heal(self) -> None:
        """Let everything through again."""
        ...
