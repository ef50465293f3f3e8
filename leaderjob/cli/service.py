"""``leaderjob service``: register an instance of a service, and see who else is there."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click

from leaderjob.cli.foreground import run_in_order
from leaderjob.cli.held_command import Duration, timing_of
from leaderjob.cli.output import print_json
from leaderjob.cli.table import print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.etcd import Etcd, EtcdError, EventKind, HistoryWentBack
from leaderjob.execution.command import CommandNotGone, run_command
from leaderjob.recipes import Instance, Registration, Registry, SessionLost, Timing

_NOT_FOUND = 4
_CONNECT_TIMEOUT_S, _CONNECT_PAUSE_S = 2.0, 0.1
_PAUSE_S = 1.0
_WORDS = {EventKind.CREATED: "joined", EventKind.UPDATED: "changed", EventKind.DELETED: "left"}


@click.group()
def service() -> None:
    """Register instances of services, and find them."""


@service.command()
@target_options
@click.option("--metadata", "metadata", multiple=True, metavar="KEY=VALUE", help="Shown with the instance.")
@click.option(
    "--ttl",
    "ttl_s",
    type=Duration(),
    default=10.0,
    help="How long the entry outlives a machine that died [10s].",
)
@click.option(
    "--when-listening",
    is_flag=True,
    help="Start COMMAND first, and register once HOST:PORT takes a connection.",
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
    when_listening: bool,
    name: str,
    address: str,
    command: Sequence[str],
) -> int:
    """Register HOST:PORT as an instance of the service NAME while COMMAND runs, and exit with its exit code.

    Write -- before the command. Without one it is registered until SIGTERM or Ctrl-C. When asked to stop it is
    unregistered first, then the command gets SIGTERM. The entry is made again whenever its lease was lost.

    The command is started once it is registered; with --when-listening it is registered once it listens.
    """
    target, timing = find_target(etcd, namespace, config), timing_of(ttl_s)
    pairs = _pairs(metadata)
    return run_in_order(
        _register(
            target, timing, command, name=name, address=address, metadata=pairs, when_listening=when_listening
        )
    )


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
    when_listening: bool,
) -> int:
    async with connect(target.etcd) as etcd:
        started = asyncio.Event()
        running = asyncio.create_task(_run(command, started), name="the command")
        try:
            registry = Registry(etcd, namespace=target.namespace, timing=timing)
            registration = registry.register(name, address, metadata=metadata)
            if when_listening:
                started.set()
                if await _ends_before(running, _until_listening(address)):
                    return running.result()
            await _ends_before(running, _stay_registered(etcd, registration, name, started))
            return running.result()
        except asyncio.CancelledError:
            if command:
                raise
            return 0
        finally:
            # Nobody is sent here any more.
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
            if isinstance(ended, CommandNotGone):
                raise ended


async def _run(command: Sequence[str], started: asyncio.Event) -> int:
    await started.wait()
    return await (run_command(command) if command else _for_ever())


async def _stay_registered(
    etcd: Etcd, registration: Registration, name: str, started: asyncio.Event
) -> NoReturn:
    """Until it is cancelled; sets ``started`` once it is registered. What was started by then is left alone, whatever
    etcd does. :raises EtcdError: it could not be registered, and nothing was started yet."""
    in_trouble = False
    while True:
        try:
            async with registration:
                click.echo(f"{registration.address} is registered as an instance of {name}", err=True)
                started.set()
                in_trouble = False
                raise await registration.wait_ended()
        except HistoryWentBack:
            if not started.is_set():
                raise
            # Nothing that is done here relies on what the store was before.
            click.echo("etcd was restored from a backup, or reset: registering again", err=True)
            etcd.connection.accept_store()
        except (EtcdError, SessionLost) as error:
            if not started.is_set():
                raise
            if not in_trouble:
                click.echo(
                    f"leaderjob: {registration.address} is not registered: {error}; trying again", err=True
                )
            in_trouble = True
            await asyncio.sleep(_PAUSE_S)


async def _for_ever() -> int:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")


async def _ends_before(running: asyncio.Task[int], other: Coroutine[Any, Any, object]) -> bool:
    """Whether ``running`` has ended; if not, ``other`` has, and what that raised is raised. Cancelled, it leaves ``running``
    alone."""
    waiting = asyncio.create_task(other)
    try:
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    if running.done():
        return True
    waiting.result()
    return False


async def _until_listening(address: str) -> None:
    """Return once a TCP connection to ``address`` was taken."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
            return
        except OSError:  # TimeoutError is one
            await asyncio.sleep(_CONNECT_PAUSE_S)


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
        print_table(("SERVICE", "ADDRESS", "METADATA"), rows)
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
