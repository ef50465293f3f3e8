"""Who takes part, in which version, on which server, and what it has no recipe for."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contest.contestants import OURS, Contestant
from takeover.rivals import TOOZ, etcdctl, python_of_tooz

from tournament.events import CLAIMS, FAN_OUT, HANDOVER, QUEUE, REGISTRY

TWO_PUTS = "two bare puts"


@dataclass(frozen=True, slots=True)
class Entrant:
    """One library, or one program.

    :param server: "etcd" or "zookeeper". :param in_python: then we have to be ahead of it.
    :param lacks: why it takes no part in an event, by kind. :param divisor: of the repetitions: it is slow.
    :param rarely: the kinds of events in which it takes part in every second round only: it is slower still.
    """

    contestant: Contestant
    server: str = "etcd"
    in_python: bool = False
    lacks: Mapping[str, str] = field(default_factory=dict)
    divisor: int = 1
    rarely: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.contestant.name

    @property
    def is_needed(self) -> bool:
        """Without it there is nothing to compare."""
        return self.name in (OURS, TWO_PUTS)

    def takes_part(self, kind: str, number: int) -> bool:
        """Whether it plays that kind of event in that round."""
        return kind not in self.lacks and (kind not in self.rarely or number % 2 == 1)

    def interpreter(self, venvs: Path) -> Path:
        """The Python that runs its program. :raises NotInstalled: something is missing; the message says how to get it."""
        if self.in_python:
            return python_of_tooz(venvs)
        if not self.is_needed:
            etcdctl()
        return Path(sys.executable)


def entrants() -> list[Entrant]:
    """Ours, what our lock is compared with, and the peers."""
    pinned = dict(requirement.split("==", 1) for requirement in TOOZ)
    no_messages = "it has neither queues nor messages"
    reference = "what a lock is compared with"
    only_a_lock = "etcdctl has locks and elections only"
    return [
        Entrant(Contestant(OURS, "with_leaderjob", "this tree")),
        Entrant(
            Contestant(TWO_PUTS, "with_two_puts", "the client of leaderjob, and no recipe"),
            lacks=dict.fromkeys((HANDOVER, QUEUE, CLAIMS, FAN_OUT, REGISTRY), reference),
        ),
        Entrant(
            Contestant(
                "etcdctl lock",
                "with_etcdctl",
                "a process each time, its start included where it does not wait",
            ),
            lacks=dict.fromkeys((QUEUE, CLAIMS, FAN_OUT, REGISTRY), only_a_lock),
            divisor=10,
            rarely=frozenset((HANDOVER,)),
        ),
        Entrant(
            Contestant(
                "tooz",
                "with_tooz",
                f"{pinned['tooz[redis]']}, with its driver for etcd: etcd3gw {pinned['etcd3gw']}, threads, JSON over HTTP/1.1",
            ),
            in_python=True,
            divisor=2,
            rarely=frozenset((HANDOVER, REGISTRY)),
            lacks=dict.fromkeys((QUEUE, CLAIMS, FAN_OUT), no_messages),
        ),
        Entrant(
            Contestant("kazoo", "with_kazoo", f"{pinned['kazoo']}, threads, on ZooKeeper"),
            server="zookeeper",
            in_python=True,
        ),
    ]
