"""``leaderjob barrier``: let conditions hold, and wait until several hold at once."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.durations import parse_duration_s
from leaderjob.recipes import Barrier


@click.group()
def barrier() -> None:
    """Conditions that are set by some, and waited for by others until all hold at once."""


@barrier.command("set")
@target_options
@click.argument("name")
@click.argument("condition", metavar="CONDITION[=VALUE]")
def set_(*, etcd: str | None, namespace: str | None, config: Path | None, name: str, condition: str) -> None:
    """Let CONDITION hold, until it is unset."""
    asyncio.run(_set(find_target(etcd, namespace, config), name, condition))


@barrier.command()
@target_options
@click.argument("name")
@click.argument("condition")
def unset(*, etcd: str | None, namespace: str | None, config: Path | None, name: str, condition: str) -> None:
    """Let CONDITION hold no more."""
    asyncio.run(_unset(find_target(etcd, namespace, config), name, condition))


@barrier.command()
@target_options
@click.argument("name")
def remove(*, etcd: str | None, namespace: str | None, config: Path | None, name: str) -> None:
    """Delete all of NAME: once nobody sets its conditions any more."""
    asyncio.run(_remove(find_target(etcd, namespace, config), name))


@barrier.command()
@target_options
@click.option("--wait", "wait", metavar="DURATION", help="For how long at most; 0: only look [for ever].")
@click.argument("name")
@click.argument("conditions", metavar="CONDITION[=VALUE]…", nargs=-1, required=True)
def wait(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    wait: str | None,
    name: str,
    conditions: tuple[str, ...],
) -> None:
    """Wait until every CONDITION holds at once: with that VALUE, or with any. Ends with 4 if they did not in time."""
    wait_s = None if wait is None else parse_duration_s(wait)
    asyncio.run(_wait(find_target(etcd, namespace, config), name, conditions, wait_s))


async def _set(target: Target, name: str, condition: str) -> None:
    key, _, value = condition.partition("=")
    async with connect(target.etcd) as etcd:
        revision = await Barrier(etcd, name, namespace=target.namespace).set(key, value)
    click.echo(f"{key} is set, from revision {revision} on")


async def _unset(target: Target, name: str, condition: str) -> None:
    async with connect(target.etcd) as etcd:
        await Barrier(etcd, name, namespace=target.namespace).unset(condition)
    click.echo(f"{condition} is not set any more")


async def _remove(target: Target, name: str) -> None:
    async with connect(target.etcd) as etcd:
        await Barrier(etcd, name, namespace=target.namespace).remove()
    click.echo(f"{name} is removed")


async def _wait(target: Target, name: str, conditions: Sequence[str], wait_s: float | None) -> None:
    wanted: dict[str, str | None] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if key in wanted:
            raise click.UsageError(f"{key} is waited for twice: a condition has one value at a time")
        wanted[key] = value if equals else None
    async with connect(target.etcd) as etcd:
        revision = await Barrier(etcd, name, namespace=target.namespace).wait(wanted, wait_s=wait_s)
    click.echo(f"open: all {len(wanted)} held at revision {revision}")
