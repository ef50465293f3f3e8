"""Members, jobs, runs and etcd as scripts see them: what ``--json`` prints."""

from collections.abc import Mapping
from typing import Any

from leaderjob.etcd.maintenance import Health
from leaderjob.model.run import Run
from leaderjob.records.keys import Kind
from leaderjob.records.narrate import stamp
from leaderjob.records.view import View


def member_facts(view: View, replica: str) -> dict[str, Any]:
    member = view.members[replica].record
    return {
        "replica": member.replica,
        "role": member.role,
        "priority": member.priority,
        "incarnation": member.incarnation,
        "release": member.release,
        "host": member.host,
        "pid": member.pid,
        "started": stamp(member.started),
        "addresses": member.addresses,
        "unreachable_from": view.who_cannot_reach(member),
        "draining": member.draining,
        "reads_schema": member.reads_schema,
        "lacks": {"count": member.lacks.count, "jobs": list(member.lacks.jobs)} if member.lacks else None,
        "versions": {
            job: holding.active for job, holding in member.holds.items() if holding.active is not None
        },
    }


def job_facts(view: View, job: str) -> dict[str, Any]:
    spec, timetable, pointer = view.specs[job].record, view.timetable(job), view.pointer(job)
    runs = view.runs(job)
    last = runs[-1].record if runs else None
    progress = view.progress(job, last.id) if last else None
    next_fire = timetable.record.next_fire if timetable and not spec.removed else None
    return {
        "name": job,
        "schedule": list(spec.schedule),
        "time_zone": spec.time_zone,
        "schedule_error": spec.schedule_error,
        "overridden": list(spec.overridden),
        "enabled": spec.enabled,
        "removed": stamp(spec.removed) if spec.removed else None,
        "leader_lacks_it": _leader_lacks(view, job),
        "next_fire": stamp(next_fire) if next_fire else None,
        "version": pointer.record.version if pointer else None,
        "last_run": run_facts(last) if last else None,
        "progress": progress.model_dump(exclude={"v"}) if progress else None,
    }


def _leader_lacks(view: View, job: str) -> bool:
    leader = view.leader
    member = view.get(Kind.MEMBER, leader.record.replica) if leader is not None else None
    return member is not None and member.record.lacks is not None and job in member.record.lacks.jobs


def run_facts(run: Run) -> dict[str, Any]:
    """A run as scripts see it."""
    facts = run.model_dump(mode="json", exclude={"v"})
    facts["attempts"] = [
        {key: value for key, value in attempt.items() if key != "v"} for attempt in facts["attempts"]
    ]
    return facts


def next_in_line(view: View, leader: Mapping[str, Any] | None) -> list[str]:
    """The candidates behind the leader, each once: a restarted replica may have two keys until the old lease ends."""
    leading = leader["replica"] if leader is not None and not leader.get("foreign") else None
    standing = [stored.record.replica for stored in view.queue]
    return [replica for replica in dict.fromkeys(standing) if replica != leading]


def etcd_facts(health: Health) -> dict[str, Any]:
    """Members have their ids in hex, as etcdctl shows them."""
    endpoints = [
        {
            "endpoint": status.endpoint,
            "member": f"{status.member:x}",
            "version": status.version,
            "db_size_bytes": status.db_size_bytes,
            "db_in_use_bytes": status.db_in_use_bytes,
            "quota_bytes": status.quota_bytes,
            "leads": status.leader == status.member,
            "raft_term": status.raft_term,
            "errors": list(status.errors),
        }
        for status in health.endpoints
    ]
    return {
        "endpoints": endpoints,
        "silent": dict(health.silent),
        "alarms": [{"member": f"{alarm.member:x}", "alarm": alarm.kind} for alarm in health.alarms],
        "warnings": list(health.warnings()),
        "unknown": health.unknown,
    }
