"""Whether the others can be reached where they say that their liveness ports are.

Fast takeover needs that: a candidate judges the one before it by a stream to its port. Where such a stream
never stood there is no verdict (``liveness.py``), so an address that is wrong or blocked costs the TTL when its
replica crashes, and nothing says so until then. Therefore each replica dials each new member once. Who can reach
whom is a matter of two replicas, so each tells of what itself has seen, in its own member record.
"""

import asyncio
from dataclasses import dataclass

from leaderjob.clock import boottime
from leaderjob.cluster.liveness import why_unreachable
from leaderjob.cluster.membership import Membership
from leaderjob.model.member import Priority
from leaderjob.records.feed import Feed
from leaderjob.records.view import View
from leaderjob.telemetry.events import Events, emit

_DIALS_AT_ONCE = 16
_DIAL_AGAIN_S = 1.0
_LOOK_AGAIN_S = 30.0
_LEASES_END_LATE_BY_S = 2.0

REMEDY = (
    "let its liveness port through (replica.liveness_port fixes it), correct its replica.advertise, or set "
    "election.takeover_fast = false"
)


@dataclass(frozen=True, slots=True)
class Port:
    """Where one incarnation says that it can be seen to be alive."""

    replica: str
    incarnation: str
    address: str


@dataclass(slots=True)
class Silence:
    """:param since: boot time in seconds of the first dial. :param due: and of the next one."""

    since: float
    due: float
    told: bool = False


class Reachability:
    """Dials the others' liveness ports, and tells of those where nobody answers.

    A record outlives its process by a TTL. So who does not answer is dialled again for longer than that: only
    a member that is still there then lives, and cannot be reached.

    :param ttl_s: of the members' leases.
    """

    def __init__(self, feed: Feed, membership: Membership, *, ttl_s: float) -> None:
        self._feed = feed
        self._membership = membership
        self._patience_s = ttl_s + _LEASES_END_LATE_BY_S
        self._reached: set[Port] = set()
        self._silent: dict[Port, Silence] = {}
        self._slots = asyncio.Semaphore(_DIALS_AT_ONCE)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            ports = self._ports(self._feed.view)
            self._reached &= ports
            self._silent = {port: silence for port, silence in self._silent.items() if port in ports}
            now = boottime()
            due = [
                port
                for port in ports - self._reached
                if port not in self._silent or self._silent[port].due <= now
            ]
            async with asyncio.TaskGroup() as group:
                for port in due:
                    group.create_task(self._dial(port), name=f"reachability: {port.replica}")
            self._membership.set(
                unreachable={
                    port.replica: port.address for port, silence in self._silent.items() if silence.told
                }
            )
            await self._wait(ports)

    async def _dial(self, port: Port) -> None:
        began = boottime()
        async with self._slots:
            reason = await why_unreachable(port.address, port.incarnation)
        if reason is None:
            self._reached.add(port)
            silence = self._silent.pop(port, None)
            if silence is not None and silence.told:
                emit(Events.MEMBER_REACHABLE, member=port.replica, address=port.address)
            return
        now = boottime()
        silence = self._silent.setdefault(port, Silence(since=began, due=now))
        if not silence.told and now - silence.since > self._patience_s:
            silence.told = True
            emit(
                Events.MEMBER_UNREACHABLE,
                member=port.replica,
                address=port.address,
                reason=f"{reason}: {REMEDY}",
            )
        silence.due = now + (_LOOK_AGAIN_S if silence.told else _DIAL_AGAIN_S)

    async def _wait(self, ports: set[Port]) -> None:
        """Until a member comes or goes, or somebody is to be dialled again."""
        due = min((silence.due for silence in self._silent.values()), default=None)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - boottime())):
                await self._feed.until(lambda view: self._ports(view) != ports)
        except TimeoutError:
            return

    def _ports(self, view: View) -> set[Port]:
        """Of all others that may lead."""
        others = [stored.record for stored in view.members.values()]
        return {
            Port(other.replica, other.incarnation, other.addresses["liveness"])
            for other in others
            if other.replica != self._membership.member.replica
            and other.priority is not Priority.OBSERVER
            and "liveness" in other.addresses
        }
