"""``leaderjob watch``: what happens, one event a line."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.outages import outages_told
from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def watch(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Show what happens, beginning with who is there. Runs until Ctrl-C, and goes on after an outage of etcd."""
    target = find_target(etcd, namespace, config)
    asyncio.run(_watch(target, as_json))


async def _watch(target: Target, as_json: bool) -> None:
    async with target.client() as client, outages_told(client), aclosing(client.watch()) as events:
        async for event in events:
            if as_json:
                print_json(event)
            else:
                click.echo(_line(event))


def _line(event: dict[str, Any]) -> str:
    shown = {
        name: value
        for name, value in event.items()
        if name not in ("at", "event", "incarnation", "digest", "result") and value not in (None, "")
    }
    fields = " ".join(f"{name}={value}" for name, value in shown.items())
    return f"{event['at'][11:23]} {event['event']:<15} {fields}"
