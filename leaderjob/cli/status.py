"""``leaderjob status``: who leads, who is there, what is served, and when each job fires next."""

import asyncio
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import ago, print_json, print_table
from leaderjob.cli.target import Target, find_target, target_options


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Show the leader, the replicas and the jobs."""
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
    click.echo()
    jobs = sorted({job for member in found["members"] for job in member["versions"]})
    print_table(
        ["REPLICA", "ROLE", "HOST", "PID", "STARTED", "GRPC", *(f"{job.upper()}" for job in jobs)],
        [
            [
                member["replica"],
                member["role"],
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
    for key, reason in found["quarantined"].items():
        click.echo(f"warning: {key} is quarantined: {reason}", err=True)


def _job_row(job: dict[str, Any]) -> list[str]:
    last = job["last_run"] or {}
    outcome = last.get("outcome") or last.get("state") or ""
    if job["progress"] and not last.get("outcome"):
        outcome += f" {job['progress']['done']:g}/{job['progress']['total']:g}"
    return [
        job["name"],
        ", ".join(job["schedule"]) or "when triggered",
        ago(job["next_fire"]),
        _version(job["version"]),
        last.get("id", ""),
        outcome,
        job["schedule_error"] or last.get("reason") or "",
    ]


def _version(version: int | None) -> str:
    return "" if version is None else f"v{version}"
