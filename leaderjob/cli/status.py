"""``leaderjob status``: who leads, who is there, what is served, when each job fires next, how etcd is."""

import asyncio
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import ago, format_size, print_json, print_table
from leaderjob.cli.target import Target, find_target, target_options


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
        left_s, trust_s = leader["lease_left_s"], leader["trust_left_s"]
        lease = f", its lease has {left_s} s left" if left_s is not None else ""
        if trust_s is not None:
            lease = f", trusted for {trust_s:g} s without another keepalive{lease}"
        since = f" for {ago(leader['since']).removesuffix(' ago')}" if leader["since"] else ""
        click.echo(
            f"namespace {found['namespace']}: {leader['replica']} leads{since}, fencing token {leader['token']}{lease}"
        )
    if found["next"]:
        click.echo(f"next in line: {', '.join(found['next'])}")
    _print_etcd(found["etcd"])
    click.echo()
    jobs = sorted({job for member in found["members"] for job in member["versions"]})
    print_table(
        ["REPLICA", "ROLE", "HOST", "PID", "STARTED", "GRPC", *(f"{job.upper()}" for job in jobs)],
        [
            [
                member["replica"],
                _role(member),
                member["host"],
                str(member["pid"]),
                ago(member["started"]),
                member["addresses"].get("grpc", ""),
                *(_version(member["versions"].get(job)) for job in jobs),
            ]
            for member in found["members"]
        ],
    )
    click.echo()
    print_table(
        ["JOB", "SCHEDULE", "NEXT FIRE", "VERSION", "LAST RUN", "OUTCOME", "REASON"],
        [_job_row(job) for job in found["jobs"]],
    )
    for member in found["members"]:
        if member["unreachable_from"]:
            click.secho(f"warning: {_unreachable(member)}", fg="yellow", err=True)
    for key, reason in found["quarantined"].items():
        click.echo(f"warning: {key} is quarantined: {reason}", err=True)


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
    click.echo(f"etcd: {click.style(state, fg=colour)}")
    if members and etcd["unknown"]:
        click.echo(f"note: not all of etcd's state is known: {etcd['unknown']}", err=True)
    for warning in etcd["warnings"]:
        click.secho(f"warning: {warning}", fg=colour, err=True)


def _job_row(job: dict[str, Any]) -> list[str]:
    last = job["last_run"] or {}
    outcome = last.get("outcome") or last.get("state") or ""
    if job["progress"] and not last.get("outcome"):
        outcome += f" {job['progress']['done']:g}/{job['progress']['total']:g}"
    return [
        job["name"],
        _schedule(job),
        ago(job["next_fire"]),
        _version(job["version"]),
        last.get("id", ""),
        outcome,
        job["schedule_error"] or last.get("reason") or "",
    ]


def _schedule(job: dict[str, Any]) -> str:
    if not job["enabled"]:
        return "disabled (leaderjob config)"
    shown = ", ".join(job["schedule"]) or "when triggered"
    return f"{shown} (overridden: {', '.join(job['overridden'])})" if job["overridden"] else shown


def _unreachable(member: dict[str, Any]) -> str:
    who = ", ".join(member["unreachable_from"])
    return (
        f"{who} cannot reach {member['replica']} at its liveness address {member['addresses'].get('liveness')}: its crash "
        "is noticed by its TTL only. Let its liveness port through, or correct its replica.advertise"
    )


def _role(member: dict[str, Any]) -> str:
    priority = member["priority"]
    return str(member["role"]) + (f", {priority}" if priority != "ordinary" else "")


def _version(version: int | None) -> str:
    return "" if version is None else f"v{version}"
