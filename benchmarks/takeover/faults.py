"""What happens to a leader, how it is undone, and how long it takes until another one acts and its first run begins."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from leaderjob.clock import boottime
from leaderjob.embedded.cluster import ReplicaProcess
from takeover.cluster import BRIEF, HELD, Cluster, WentOtherwise

_SLACK_S = 10.0

Strike = Callable[[Cluster, ReplicaProcess], None]
Mend = Callable[[Cluster, ReplicaProcess], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """:param mend: makes it possible to start that replica again.
    :param in_mid_run: the leader has a worker that does not end by itself.
    """

    name: str
    strike: Strike
    mend: Mend
    in_mid_run: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """Seconds from what was done to the leader.

    :param acting_s: until a watch showed the first write of another leader's term.
    :param began_s: until the worker began of the run that was under way, or else of one that was asked for at the
        moment of the fault: stamped by the worker itself.
    """

    acting_s: float
    began_s: float


async def trial(cluster: Cluster, fault: Fault) -> Trial:
    """One of them, on a whole cluster; what was struck is ready to be started again afterwards.

    :raises WentOtherwise: nobody took over, not the one who was next, or not for good.
    """
    leader, heir = await cluster.whole()
    job, attempt = (HELD, 2) if fault.in_mid_run else (BRIEF, 1)
    limit_s = 2 * cluster.ttl_s + _SLACK_S
    doing = "its run did not begin"
    seeing: asyncio.Task[tuple[str, float]] | None = None
    try:
        async with asyncio.timeout(limit_s):
            run = await _under_way(cluster) if fault.in_mid_run else None
            doing = "nobody took over"
            seeing = asyncio.create_task(cluster.acting_after(leader.name))
            await asyncio.sleep(0)  # the observer waits from here on
            struck_at = boottime()
            fault.strike(cluster, leader)
            run = run or await cluster.ask_for(job)
            name, acting_at = await seeing
            doing = f"{name} acted as leader, but no run began"
            began_at = await cluster.began(run, attempt)
            doing = "the run did not end"
            await cluster.ended(job, run)
    except TimeoutError:
        raise WentOtherwise(f"{fault.name}: {doing} within {limit_s:g} s") from None
    finally:
        if seeing is not None:
            seeing.cancel()
            await asyncio.wait([seeing])
        await fault.mend(cluster, leader)
    if name != heir.name:
        raise WentOtherwise(f"{fault.name}: {name} took over, though {heir.name} was next")
    if cluster.leader != heir.name:
        raise WentOtherwise(f"{fault.name}: {heir.name} took over, and then {cluster.leader} did")
    return Trial(acting_at - struck_at, began_at - struck_at)


async def _under_way(cluster: Cluster) -> str:
    run = await cluster.ask_for(HELD)
    await cluster.began(run, 1)
    return run


def _send(number: signal.Signals) -> Strike:
    return lambda _, leader: leader.send(number)


async def _end(_: Cluster, leader: ReplicaProcess) -> None:
    leader.kill()


async def _let_end(_: Cluster, leader: ReplicaProcess) -> None:
    await leader.stop()
    leader.kill()


async def _plug_in(cluster: Cluster, leader: ReplicaProcess) -> None:
    leader.kill()
    cluster.machines[leader.name].plug_in()


def _unplug(cluster: Cluster, leader: ReplicaProcess) -> None:
    cluster.machines[leader.name].unplug()


def _lose(cluster: Cluster, leader: ReplicaProcess) -> None:
    cluster.machines[leader.name].unplug()
    leader.send(signal.SIGKILL)


KILLED = Fault("killed", _send(signal.SIGKILL), _end)
KILLED_IN_MID_RUN = Fault("killed in mid-run", _send(signal.SIGKILL), _end, in_mid_run=True)
STOPPED = Fault("stopped in order", _send(signal.SIGTERM), _let_end)
PAUSED = Fault("paused", _send(signal.SIGSTOP), _end)
CUT_OFF = Fault("cut off", _unplug, _plug_in)
HOST_GONE = Fault("host gone", _lose, _plug_in)
