"""The leader of etcd's own cluster is killed: does ours keep office, and how long can nobody write?"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from leaderjob.clock import boottime
from leaderjob.etcd import Etcd, EtcdError
from takeover.cluster import BRIEF, Cluster, WentOtherwise
from takeover.members import Members

_AT_RISK = re.compile(r"trust_at_risk .*\bleft_s=([0-9.]+)")
_TRY_FOR_S = 0.1
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Outage:
    """Seconds from the kill.

    :param written_s: until etcd took a write again.
    :param began_s: until the worker began of a run that was asked for at the moment of the kill.
    :param kept_office: whether the term is the same one as before, a TTL after the kill.
    :param least_trust_s: what the leader warned of; None: it did not.
    """

    written_s: float
    began_s: float
    kept_office: bool
    least_trust_s: float | None


async def outage(cluster: Cluster, members: Members) -> Outage:
    """One trial; the member is a member again afterwards.

    :raises WentOtherwise: no run began in time. :raises MembersNotStarted: etcd does not come back.
    """
    leader, _ = await cluster.whole()
    token = cluster.token
    seen_bytes = leader.log_path.stat().st_size
    struck = await members.leader()
    limit_s = 3 * cluster.ttl_s
    struck_at = boottime()
    struck.kill()
    try:
        async with asyncio.timeout(limit_s):
            async with asyncio.TaskGroup() as both:
                writing = both.create_task(_written(members.endpoints))
                asking = both.create_task(cluster.ask_for(BRIEF))
            written_at, run = writing.result(), asking.result()
            began_at = await cluster.began(run, 1)
            await cluster.ended(BRIEF, run)
    except TimeoutError:
        raise WentOtherwise(f"no run began and ended within {limit_s:g} s") from None
    finally:
        struck.start()
        await members.until_healthy()
    # A leadership that is lost shows within a TTL: the lease of who led runs out.
    await asyncio.sleep(max(0.0, struck_at + cluster.ttl_s - boottime()))
    with leader.log_path.open() as log:
        log.seek(seen_bytes)
        warned_s = [float(left_s) for left_s in _AT_RISK.findall(log.read())]
    kept = cluster.token == token
    return Outage(written_at - struck_at, began_at - struck_at, kept, min(warned_s, default=None))


async def _written(endpoints: Sequence[str]) -> float:
    """The boot time at which a write was acknowledged: tried over and over, each time for a moment only, since what
    is on its way to a dead leader is never answered."""
    async with Etcd(endpoints, call_timeout_s=_TRY_FOR_S) as etcd:
        while True:
            with suppress(EtcdError):
                await etcd.put("/probe", b"")
                return boottime()
            await asyncio.sleep(_PAUSE_S)
