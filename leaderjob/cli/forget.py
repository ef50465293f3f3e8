"""``leaderjob forget``: delete a job that no replica has any more, with its history."""

import asyncio
from pathlib import Path

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options


@click.command()
@click.argument("job")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def forget(*, job: str, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Delete JOB with its runs and results. It cannot be undone.

    Refused while a live replica has JOB, or while one of its workers may be alive. Its unfinished runs end as
    abandoned. What replicas have of its results on their disks stays there.
    """
    outcome = asyncio.run(_forget(find_target(etcd, namespace, config), job))
    if as_json:
        print_json({"job": job, "outcome": outcome})
    else:
        click.echo(outcome)


async def _forget(target: Target, job: str) -> str:
    async with target.client() as client:
        return await client.forget(job)
