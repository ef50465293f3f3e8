"""``leaderjob runs``: the ledger."""

import asyncio
from pathlib import Path

import click

from leaderjob.cli.output import ago, colour_of, print_json
from leaderjob.cli.table import Cell, Column, print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.durations import format_duration
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Run
from leaderjob.recipes.config_path import format_path
from leaderjob.records.facts import run_facts

_COLUMNS = (
    "JOB",
    "RUN",
    Column("CAUSE", optional=3),
    Column("CREATED", optional=1),
    Column("TOOK", optional=4),
    Column("LEADER", optional=5),
    Column("TOKEN", optional=6),
    "OUTCOME",
    Column("VERSION", optional=2),
    Column("REASON", prose=True),
)


@click.command()
@click.argument("job", required=False)
@target_options
@click.option("--limit", default=20, show_default=True, help="How many runs to show, the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def runs(
    *,
    job: str | None,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the runs of JOB, or of all jobs: what became of each fire, and why."""
    if limit < 1:
        raise click.BadParameter("at least 1", param_hint="--limit")
    found, specs = asyncio.run(_fetch(find_target(etcd, namespace, config), job))
    found = found[-limit:]
    if as_json:
        print_json([run_facts(run) for run in found])
        return
    print_table(
        _COLUMNS,
        [_row(run) for run in found],
    )
    for spec in specs:
        if spec.overridden and job in (None, spec.name):
            state = "" if spec.enabled else " and disabled"
            click.echo(
                f"note: {spec.name} is overridden ({', '.join(spec.overridden)}){state}: "
                f"leaderjob config get {format_path(['jobs', spec.name])}",
                err=True,
            )


async def _fetch(target: Target, job: str | None) -> tuple[list[Run], list[JobSpec]]:
    async with target.client() as client:
        runs = await client.runs(job)
        specs = (await client.view()).specs
    return runs, [stored.record for _, stored in sorted(specs.items())]


def _row(run: Run) -> list[str | Cell]:
    attempt = run.attempt
    took = format_duration((run.ended - run.created).total_seconds()) if run.ended and attempt else ""
    several = f" ({run.fires.count} fires)" if run.fires else ""
    return [
        run.job,
        run.id,
        run.cause,
        ago(run.created),
        took,
        attempt.replica if attempt else "",
        str(attempt.token) if attempt else "",
        Cell((run.outcome or run.state) + several, colour_of(run.outcome)),
        f"v{run.version}" if run.version else "",
        run.reason or "",
    ]
