"""Office for one replica: those before it in the queue step aside, then the leader steps down."""

import asyncio
from contextlib import suppress

from leaderjob.cluster.liveness import incarnation_at
from leaderjob.engine.office import Office
from leaderjob.etcd import Delete, Put, modified_at
from leaderjob.model.member import Priority
from leaderjob.model.transfer import Transfer
from leaderjob.records.fenced import Conflict
from leaderjob.records.view import View

WITHIN_S = 10.0


def why_not(view: View, leader: str, to: str) -> str | None:
    """Why office cannot pass from ``leader`` to that replica; None: it can, as far as can be seen."""
    if to == leader:
        return f"{to} leads already"
    member = view.members.get(to)
    if member is None:
        known = ", ".join(sorted(name for name in view.members if name != leader)) or "none"
        return f"no replica is called {to!r} here, or it is not alive; others are {known}"
    if member.record.priority is Priority.OBSERVER:
        return f"{to} is an observer, which never leads: give it another replica.priority and start it again"
    return None


async def unreachable(view: View, to: str) -> str | None:
    """Why that replica would not take office over although it has a record; None: its process answers."""
    member = view.members[to].record
    address = member.addresses.get("liveness")
    if address is not None and await incarnation_at(address) != member.incarnation:
        return f"{to} does not answer at {address}: it is dead or hangs, or a firewall is in between"
    return None


def is_next(view: View, to: str) -> bool:
    """Whether that replica leads as soon as the leader goes. A foreign candidate before it is in the way."""
    standing = sorted(view.candidates.values(), key=lambda kv: kv.create_revision)
    found = next((stored for stored in view.queue if stored.record.replica == to), None)
    return found is not None and len(standing) > 1 and standing[1].key == found.key


async def make_next(office: Office, to: str) -> str | None:
    """Ask the candidates before that replica to queue again, and wait for it; why it did not come to that, or None.
    There must be no reason :func:`why_not`.

    The request is on the term's lease. Where it was of no use it is taken back.

    :raises NotLeader: the term is over. :raises Conflict: somebody else's hand is in it.
    """
    obstacle = await unreachable(office.feed.view, to)
    if obstacle is not None:
        return obstacle
    key = office.keys.transfer
    if key in office.feed.view.newer:
        return f"only a newer release can read {key}: let a replica of that release lead, or remove the key"
    found = await office.writer.read(key)
    asked = Transfer(to=to, token=office.token)
    await office.writer.commit(
        [modified_at(key, found.mod_revision if found else 0)],
        [Put(key, asked.to_bytes(), lease=office.leadership.term.lease_id)],
    )
    with suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S):
            await office.feed.until(lambda view: is_next(view, to))
            return None
    await take_back(office)
    return f"{to} was not next in line within {WITHIN_S:g} s: does it stand for election, or another program before it?"


async def take_back(office: Office) -> None:
    """Ask nobody any more to queue again.

    :raises NotLeader: the term is over.
    """
    found = await office.writer.read(office.keys.transfer)
    if found is not None:
        with suppress(
            Conflict
        ):  # gone already, by a try without an answer perhaps, or somebody else's by now
            await office.writer.commit([modified_at(found.key, found.mod_revision)], [Delete(found.key)])
