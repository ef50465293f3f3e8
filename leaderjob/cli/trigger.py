"""``leaderjob trigger``: ask the leader to run a job now."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from leaderjob.cli.outages import outages_told
from leaderjob.cli.output import parse_object, print_json
from leaderjob.cli.prose import on_terminal, print_prose, printable
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.client import Client
from leaderjob.model import run as model
from leaderjob.model.run import Outcome, Run
from leaderjob.records.facts import run_facts


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
        print_prose(f"run {facts['id']} of {job} {facts['outcome']}{version}{reason}")
    else:
        click.echo(f"run {facts['run']} of {job} was admitted")
    return 1 if wait and facts["outcome"] != Outcome.SUCCEEDED else 0


async def _trigger(target: Target, job: str, params: dict[str, Any], wait: bool) -> dict[str, Any]:
    async with target.client() as client, outages_told(client):
        run = await client.trigger(job, params)
        return run_facts(await _wait(client, job, run)) if wait else {"job": job, "run": run}


async def _wait(client: Client, job: str, run: str) -> Run:
    """Wait for the end of the run, with its id and a bar on stderr. Ctrl-C ends the waiting and not the run."""
    click.echo(f"run {run} of {job} was admitted", err=True)
    try:
        with _Bar() as bar:
            async with aclosing(client.follow_run(job, run)) as states:
                async for record, progress in states:
                    bar.show(record, progress)
    except asyncio.CancelledError:
        print_prose(f"run {run} goes on; 'leaderjob runs {job}' shows how it ends", err=True)
        raise
    return record


class _Bar:
    """How far the run is, redrawn on stderr where that is a terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", style="dim"),
            console=Console(stderr=True, highlight=False),
            transient=True,
            disable=not on_terminal(sys.stderr),
        )
        self._task = self._bar.add_task("waiting", total=None, message="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, run: Run, progress: model.Progress | None) -> None:
        self._bar.update(self._task, description=run.state)
        if progress is not None:
            message = escape(printable(progress.message))
            self._bar.update(
                self._task, completed=progress.done, total=progress.total or None, message=message
            )
        elif run.attempt is not None:
            self._bar.update(self._task, completed=0, total=None, message=f"attempt {run.attempt.number}")
