"""``leaderjob trigger``: ask the leader to run a job now."""

import asyncio
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.outages import outages_told
from leaderjob.cli.output import parse_object, print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.client import run_facts
from leaderjob.model.run import Outcome


@click.command()
@click.argument("job")
@target_options
@click.option(
    "--params", metavar="JSON", default="{}", help="Values for the job's parameters, a JSON object."
)
@click.option("--wait", is_flag=True, help="Wait until the run is over; exit with 1 unless it succeeded.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def trigger(
    *,
    job: str,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    params: str,
    wait: bool,
    as_json: bool,
) -> int:
    """Run JOB now. Prints the id of the run once the leader has admitted it."""
    given = parse_object("--params", params)
    facts = asyncio.run(_trigger(find_target(etcd, namespace, config), job, given, wait))
    if as_json:
        print_json(facts)
    elif wait:
        reason = f": {facts['reason']}" if facts["reason"] else ""
        version = f", version {facts['version']}" if facts["version"] else ""
        click.echo(f"run {facts['id']} of {job} {facts['outcome']}{version}{reason}")
    else:
        click.echo(f"run {facts['run']} of {job} was admitted")
    return 1 if wait and facts["outcome"] != Outcome.SUCCEEDED else 0


async def _trigger(target: Target, job: str, params: dict[str, Any], wait: bool) -> dict[str, Any]:
    async with target.client() as client, outages_told(client):
        run = await client.trigger(job, params)
        if wait:
            return run_facts(await client.wait_for_run(job, run))
        return {"job": job, "run": run}
