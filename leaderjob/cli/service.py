"""``leaderjob service``: register an instance of a service, and see who else is there."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.foreground import run_in_order
from leaderjob.cli.held_command import Duration, timing_of
from leaderjob.cli.output import print_json, print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.etcd import EventKind
from leaderjob.execution.command import CommandNotGone, run_command
from leaderjob.recipes import Instance, Registry, Timing

_NOT_FOUND = 4
_WORDS = {EventKind.CREATED: "joined", EventKind.UPDATED: "changed", EventKind.DELETED: "left"}


@click.group()
def service() -> None:
    """Register instances of services, and find them."""


@service.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": True})
@target_options
@click.option("--metadata", "metadata", multiple=True, metavar="KEY=VALUE", help="Shown with the instance.")
@click.option(
    "--ttl",
    "ttl_s",
    type=Duration(),
    default=10.0,
    help="How long the entry outlives a machine that died [10s].",
)
@click.argument("name")
@click.argument("address", metavar="HOST:PORT")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def register(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    metadata: Sequence[str],
    ttl_s: float,
    name: str,
    address: str,
    command: Sequence[str],
) -> int:
    """Register HOST:PORT as an instance of the service NAME while COMMAND runs, and exit with its exit code.

    Write -- before the command. Without one it is registered until SIGTERM or Ctrl-C. When asked to stop it is
    unregistered first, then the command gets SIGTERM. The entry is made again whenever its lease was lost.
    """
    target, timing = find_target(etcd, namespace, config), timing_of(ttl_s)
    pairs = _pairs(metadata)
    return run_in_order(_register(target, timing, command, name=name, address=address, metadata=pairs))


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
        pairs[key] = value
    return pairs


async def _register(
    target: Target,
    timing: Timing,
    command: Sequence[str],
    *,
    name: str,
    address: str,
    metadata: dict[str, str],
) -> int:
    running: asyncio.Task[int] | None = None
    async with connect(target.etcd) as etcd:
        registry = Registry(etcd, namespace=target.namespace, timing=timing)
        registration = registry.register(name, address, metadata=metadata)
        try:
            async with registration:
                click.echo(f"{address} is registered as an instance of {name}", err=True)
                if not command:
                    return await _until_asked_to_stop()
                running = asyncio.create_task(run_command(command), name="the command")
                return await asyncio.shield(running)
        finally:
            # Nobody is sent here any more.
            if running is not None:
                running.cancel()
                (ended,) = await asyncio.gather(running, return_exceptions=True)
                if isinstance(ended, CommandNotGone):
                    raise ended


async def _until_asked_to_stop() -> int:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return 0
    raise AssertionError("nobody sets this event")


@service.command("list")
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@click.argument("name", required=False)
def list_(
    *, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool, name: str | None
) -> int:
    """Show the instances of the service NAME, or of all services. Exits with 4 where NAME has none."""
    services = asyncio.run(_list(find_target(etcd, namespace, config), name))
    instances = [(service, each) for service, found in services.items() for each in found]
    if as_json:
        print_json([_fields(service, each) for service, each in instances])
    elif instances:
        rows = [(service, each.address, _shown(each.metadata)) for service, each in instances]
        print_table(("service", "address", "metadata"), rows)
    if name is not None and not instances:
        click.echo(f"no instance of {name} is registered", err=True)
        return _NOT_FOUND
    return 0


async def _list(target: Target, name: str | None) -> dict[str, tuple[Instance, ...]]:
    async with connect(target.etcd) as etcd:
        registry = Registry(etcd, namespace=target.namespace)
        return await registry.services() if name is None else {name: await registry.discover(name)}


@service.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.argument("name")
def watch(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool, name: str) -> None:
    """Show who comes and goes, beginning with who is there, one line each. Runs until Ctrl-C."""
    asyncio.run(_watch(find_target(etcd, namespace, config), name, as_json))


async def _watch(target: Target, name: str, as_json: bool) -> None:
    async with connect(target.etcd) as etcd:
        registry = Registry(etcd, namespace=target.namespace)
        async with aclosing(registry.watch(name)) as changes:
            async for change in changes:
                at, word, instance = datetime.now(UTC), _WORDS[change.kind], change.instance
                if as_json:
                    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
                    print_json({"at": stamp, "event": word, **_fields(name, instance)})
                else:
                    line = f"{at:%H:%M:%S} {word:<7} {instance.address} {_shown(instance.metadata)}"
                    click.echo(line.rstrip())


def _fields(name: str, instance: Instance) -> dict[str, Any]:
    return {
        "service": name,
        "address": instance.address,
        "metadata": instance.metadata,
        "key": instance.key,
    }


def _shown(metadata: Any) -> str:
    if not isinstance(metadata, dict):
        return str(metadata)
    return " ".join(f"{key}={value}" for key, value in metadata.items())
