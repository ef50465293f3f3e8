"""The replicas that are there: can they be reached from this machine, as fast takeover demands."""

import asyncio

from leaderjob.client import Client
from leaderjob.cluster.liveness import why_unreachable
from leaderjob.cluster.reachability import REMEDY
from leaderjob.cluster.schema import why_not_lead
from leaderjob.connecting import etcd_certificates, etcd_user
from leaderjob.doctor.verdict import Finding, ok, problem, warning
from leaderjob.errors import LeaderjobError
from leaderjob.model.member import Member
from leaderjob.records.view import View
from leaderjob.settings import EtcdSettings


async def check_members(settings: EtcdSettings) -> list[Finding]:
    """One finding for each replica that is there; none where etcd does not answer, which is said elsewhere.

    :param settings: with an endpoint at least.
    """
    try:
        async with Client(
            settings.endpoints,
            settings.namespace,
            certificates=etcd_certificates(settings),
            user=etcd_user(settings),
            allow_plaintext_password=settings.allow_plaintext_password,
        ) as client:
            view = await client.view()
    except LeaderjobError:
        return []
    problem_with_keys = why_not_lead(view)
    if problem_with_keys is not None:
        return [
            problem("keys", problem_with_keys, "upgrade leaderjob here, or see what is under meta/schema")
        ]
    members = [view.members[name].record for name in sorted(view.members)]
    return await asyncio.gather(*(_check(view, member) for member in members))


async def _check(view: View, member: Member) -> Finding:
    subject = f"replica {member.replica}"
    address = member.addresses.get("liveness")
    if address is None:
        return ok(subject, "gives no liveness address: its crash is noticed by its TTL")
    reason = await why_unreachable(address, member.incarnation)
    if reason is not None:
        found = f"cannot be reached from here at its liveness address {address}: {reason}"
        return warning(subject, found, f"if it has not just died, {REMEDY}")
    others = view.who_cannot_reach(member)
    if others:
        found = f"answers here at its liveness address {address}, but {', '.join(others)} cannot reach it"
        return warning(subject, found, REMEDY)
    return ok(subject, f"answers at its liveness address {address}")
