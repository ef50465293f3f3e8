"""``leaderjob progress``: report how far something is, and watch it."""

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.recipes import Progress, ProgressState, Report

_BAR_CHARS = 30
_ERASE_LINE = "\r\x1b[2K"


@click.group()
def progress() -> None:
    """How far something is: reported by one, watched by any number."""


@progress.command("set")
@target_options
@click.option("--message", default="", help="What it is at.")
@click.argument("name")
@click.argument("percent", type=float)
def set_(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    message: str,
    name: str,
    percent: float,
) -> None:
    """Report that NAME is at PERCENT; 100 is its end."""
    target = find_target(etcd, namespace, config)

    async def report() -> int:
        async with connect(target.etcd) as client:
            return await Progress(client, name, namespace=target.namespace).set(percent, message)

    revision = asyncio.run(report())
    click.echo(f"{name} is at {percent:g} %, from revision {revision} on")


@progress.command()
@target_options
@click.argument("name")
def remove(*, etcd: str | None, namespace: str | None, config: Path | None, name: str) -> None:
    """Delete what was reported of NAME; not while somebody reports it."""
    asyncio.run(_remove(find_target(etcd, namespace, config), name))
    click.echo(f"{name} is removed")


async def _remove(target: Target, name: str) -> None:
    async with connect(target.etcd) as client:
        await Progress(client, name, namespace=target.namespace).remove()


@progress.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.argument("name")
def watch(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool, name: str) -> int:
    """Show how far NAME is until it ends. Ends with 0, or with 1 if it failed, or its reporter died."""
    last = asyncio.run(_watch(find_target(etcd, namespace, config), name, as_json))
    return 0 if last is ProgressState.ENDED else 1


async def _watch(target: Target, name: str, as_json: bool) -> ProgressState | None:
    state = None
    live = sys.stdout.isatty() and not as_json
    async with (
        connect(target.etcd) as client,
        aclosing(Progress(client, name, namespace=target.namespace).watch()) as reports,
    ):
        async for report in reports:
            state = report.state
            if as_json:
                print_json({"percent": report.percent, "message": report.message, "state": state})
            elif live:
                click.echo(_ERASE_LINE + _bar(report) + _line(report), nl=report.is_end)
            else:
                click.echo(_line(report))
    return state


def _bar(report: Report) -> str:
    full = int(report.percent * _BAR_CHARS / 100)
    return f"[{'#' * full}{' ' * (_BAR_CHARS - full)}] "


def _line(report: Report) -> str:
    parts = [f"{report.percent:g} %", report.message.replace("\n", " ")]
    if report.state is ProgressState.LOST:
        parts.append("lost: whoever reported it died, or lost its lease")
    elif report.is_end:
        parts.append(report.state)
    return "  ".join(part for part in parts if part)
