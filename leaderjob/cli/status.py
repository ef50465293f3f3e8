"""``leaderjob status``: who leads, who is there, what is served, when each job fires next, how etcd is."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import ago, colour_of, format_share, format_size, print_json
from leaderjob.cli.prose import print_prose
from leaderjob.cli.table import Cell, Column, print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.cluster.rank import count_jobs, name_some

_MEMBER_COLUMNS = (
    "REPLICA",
    "ROLE",
    "SERVES",
    Column("STARTED", optional=1),
    Column("HOST", optional=2),
    Column("PID", optional=3),
    Column("GRPC", optional=4),
)
_JOB_COLUMNS = (
    "JOB",
    "SCHEDULE",
    "NEXT FIRE",
    Column("VERSION", optional=1),
    Column("LAST RUN", optional=2),
    "OUTCOME",
    Column("REASON", prose=True),
)
_LISTED_RESULTS = 2


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Show the leader, the replicas, the jobs, and how etcd is."""
    found = asyncio.run(_fetch(find_target(etcd, namespace, config)))
    if as_json:
        print_json(found)
    else:
        _print(found)


async def _fetch(target: Target) -> dict[str, Any]:
    async with target.client() as client:
        return await client.status()


def _print(found: dict[str, Any]) -> None:
    leader = found["leader"]
    if leader is None:
        click.echo(f"namespace {found['namespace']}: nobody leads")
    else:
        since = f" for {ago(leader['since']).removesuffix(' ago')}" if leader["since"] else ""
        click.echo(
            f"namespace {found['namespace']}: {leader['replica']} leads{since}, fencing token {leader['token']}"
        )
        if leader["lease_left_s"] is not None:
            click.echo(f"lease: {_lease(leader['lease_left_s'], leader['trust_left_s'])}")
    if found["next"]:
        print_prose(f"next in line: {', '.join(found['next'])}")
    _print_etcd(found["etcd"])
    click.echo()
    in_force = {job["name"]: job["version"] for job in found["jobs"] if job["version"] is not None}
    print_table(_MEMBER_COLUMNS, [_member_row(member, in_force) for member in found["members"]])
    click.echo()
    print_table(_JOB_COLUMNS, [_job_row(job) for job in found["jobs"]])
    for member in found["members"]:
        if member["lacks"] and member["lacks"]["count"]:
            leads = leader is not None and member["replica"] == leader["replica"]
            warning = f"warning: {_lacking(member, leads=leads)}"
            print_prose(warning, err=True, colour="red" if leads else "yellow")
        if member["unreachable_from"]:
            print_prose(f"warning: {_unreachable(member)}", err=True, colour="yellow")
    if found["schema_problem"] is not None:
        print_prose(f"warning: {found['schema_problem']}", err=True, colour="red")
    for reason in found["newer"].values():
        print_prose(f"warning: {reason}. A job that it belongs to waits", err=True, colour="yellow")
    for key, reason in found["quarantined"].items():
        print_prose(f"warning: {key} is quarantined: {reason}", err=True)


def _lease(left_s: int, trust_left_s: float | None) -> str:
    """What remains if no further keepalive arrives."""
    ends = f"ends in {left_s} s"
    return ends if trust_left_s is None else f"{ends}, trusted for {trust_left_s:g} s of it"


def _print_etcd(etcd: dict[str, Any]) -> None:
    """One line, and one to stderr for each thing that somebody should look after."""
    members = etcd["endpoints"]
    versions = ", ".join(sorted({member["version"] for member in members}))
    state = f"{len(members)} of {len(members) + len(etcd['silent'])} endpoints answer"
    if members:
        largest = max(members, key=lambda member: int(member["db_size_bytes"]))
        size, in_use = largest["db_size_bytes"], largest["db_in_use_bytes"]
        state += f", version {versions}, database {format_size(size)} ({format_size(in_use)} in use)"
    elif etcd["unknown"]:
        state = f"its state is not known: {etcd['unknown']}"
    colour = "red" if etcd["alarms"] else "yellow" if etcd["warnings"] else None
    print_prose(f"etcd: {state}", colour=colour)
    if members and etcd["unknown"]:
        print_prose(f"note: not all of etcd's state is known: {etcd['unknown']}", err=True)
    for warning in etcd["warnings"]:
        print_prose(f"warning: {warning}", err=True, colour=colour)


def _member_row(member: dict[str, Any], in_force: Mapping[str, int]) -> list[str | Cell]:
    return [
        member["replica"],
        _role(member),
        _serves(member["versions"], in_force),
        ago(member["started"]),
        member["host"],
        str(member["pid"]),
        member["addresses"].get("grpc", ""),
    ]


def _serves(versions: Mapping[str, int], in_force: Mapping[str, int]) -> str:
    """The versions one by one while they are few; of many, how many are the ones in force."""
    if len(in_force) <= _LISTED_RESULTS:
        return ", ".join(f"{job} v{version}" for job, version in sorted(versions.items()))
    current = sum(versions.get(job) == version for job, version in in_force.items())
    return f"{current} of {len(in_force)} results"


def _job_row(job: dict[str, Any]) -> list[str | Cell]:
    last = job["last_run"] or {}
    outcome = last.get("outcome") or last.get("state") or ""
    if job["progress"] and not last.get("outcome"):
        outcome += f" {format_share(job['progress']['done'], job['progress']['total'])}"
    remarks = [
        "the leader does not have it" if job["leader_lacks_it"] else "",
        f"overridden: {', '.join(job['overridden'])}" if job["overridden"] else "",
        job["schedule_error"] or last.get("reason") or "",
    ]
    return [
        job["name"],
        _schedule(job),
        "" if job["leader_lacks_it"] else ago(job["next_fire"]),
        "" if job["version"] is None else f"v{job['version']}",
        last.get("id", ""),
        Cell(outcome, colour_of(last.get("outcome"))),
        "; ".join(remark for remark in remarks if remark),
    ]


def _schedule(job: dict[str, Any]) -> str:
    if job["removed"]:
        return f"removed {ago(job['removed'])}"
    if not job["enabled"]:
        return "disabled (leaderjob config)"
    shown = ", ".join(job["schedule"])
    if not shown:
        return "when triggered"
    return shown if job["time_zone"] == "UTC" else f"{shown} ({job['time_zone']})"


def _lacking(member: dict[str, Any], *, leads: bool) -> str:
    lacks = member["lacks"]
    jobs = f"lacks {count_jobs(lacks['count'])}: {name_some(lacks['jobs'], lacks['count'])}"
    if leads:
        return f"{member['replica']} leads and {jobs}. They do not run until a replica that has them leads"
    return f"{member['replica']} {jobs}. It leads only if no candidate has more of them"


def _unreachable(member: dict[str, Any]) -> str:
    who = ", ".join(member["unreachable_from"])
    return (
        f"{who} cannot reach {member['replica']} at its liveness address {member['addresses'].get('liveness')}: its crash "
        "is noticed by its TTL only. Let its liveness port through, or correct its replica.advertise"
    )


def _role(member: dict[str, Any]) -> str:
    priority = member["priority"]
    words = [
        member["role"],
        "draining" if member["draining"] else "",
        priority if priority != "ordinary" else "",
    ]
    return ", ".join(word for word in words if word)
