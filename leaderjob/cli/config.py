"""``leaderjob config``: what is different for jobs while replicas run, kept in etcd with its history."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import ago, print_json
from leaderjob.cli.table import Column, print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.clock import utcnow
from leaderjob.connecting import connect
from leaderjob.engine.overrides import Overrides, checked_against, definitions_in_force, overrides_in
from leaderjob.errors import NotFound
from leaderjob.recipes import ConfigEntry, ConfigStore, Difference
from leaderjob.recipes.config_path import differences, find, parse_path

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_NUMBER = click.IntRange(min=0)
_FORCE = click.option(
    "--force", is_flag=True, help="Change it although it does not fit the job, or no such job is known yet."
)


@click.group()
def config() -> None:
    """Change jobs while replicas run: jobs.JOB.schedule, .enabled, .timeout, .params.NAME.

    Kept in etcd, for all replicas, with a history; the leader takes a change up within a second. It goes over what
    the job's module says, and over [overrides.JOB] of the settings. 'leaderjob settings' shows those: what a replica
    starts with, from its file, variables and flags.

    A name that has a dot itself goes in quotes: 'jobs."my.job".enabled'.
    """


@config.command()
@click.argument("path", required=False)
@target_options
@_JSON
def get(
    *, path: str | None, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool
) -> None:
    """Show what is set, or the value that is set at PATH; exit code 4 where nothing is."""
    values = asyncio.run(_values(find_target(etcd, namespace, config)))
    if path is not None:
        value = _value_at(values, path)
        if as_json:
            print_json(value)
        else:
            click.echo(_shown(value))
    elif as_json:
        print_json(values)
    else:
        rows = [[one.path, _shown(one.after)] for one in differences({}, values)]
        print_table(["PATH", "VALUE"], rows)


@config.command("set")
@click.argument("path")
@click.argument("value")
@target_options
@click.option("--text", is_flag=True, help="Take VALUE for text, even if it is JSON: 5 for '5'.")
@_FORCE
def set_(
    *,
    path: str,
    value: str,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    text: bool,
    force: bool,
) -> None:
    """Set PATH to VALUE: JSON, or else text. What is not valid, or does not fit the job, changes nothing.

    \b
    leaderjob config set jobs.search_index.schedule 'every 5m'
    leaderjob config set jobs.search_index.enabled false
    leaderjob config set jobs.search_index.schedule '["0 3 * * *", "@hourly"]'
    """
    wanted = value if text else _parsed(value)
    _tell(
        asyncio.run(
            _change(find_target(etcd, namespace, config), lambda store: store.set(path, wanted), force)
        )
    )


@config.command()
@click.argument("path")
@target_options
@_FORCE
def unset(*, path: str, etcd: str | None, namespace: str | None, config: Path | None, force: bool) -> None:
    """Let PATH be again what the job's module and the settings say; exit code 4 where nothing is set."""
    _tell(asyncio.run(_change(find_target(etcd, namespace, config), lambda store: store.unset(path), force)))


@config.command()
@target_options
@_JSON
def history(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Show the latest changes, oldest first: who did what, and when."""
    entries = asyncio.run(_history(find_target(etcd, namespace, config)))
    if as_json:
        print_json([entry.model_dump(mode="json", exclude={"v", "id"}) for entry in entries])
        return
    print_table(
        ["NUMBER", "WHEN", "BY", Column("WHAT", prose=True)],
        [[str(entry.number), ago(entry.at), entry.by, entry.what] for entry in entries],
    )


@config.command()
@click.argument("older", type=_NUMBER, required=False)
@click.argument("newer", type=_NUMBER, required=False)
@target_options
@_JSON
def diff(
    *,
    older: int | None,
    newer: int | None,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show what differs between entry OLDER of the history and entry NEWER.

    Without NEWER: and now. Without either: what the latest change did. Entry 0 is where nothing is set.
    """
    found = asyncio.run(_diff(find_target(etcd, namespace, config), older, newer))
    if as_json:
        print_json([one._asdict() for one in found])
        return
    print_table(
        ["PATH", "BEFORE", "AFTER"],
        [
            [one.path, _shown(one.before) if one.was_set else "", _shown(one.after) if one.is_set else ""]
            for one in found
        ],
    )


@config.command()
@click.argument("number", type=_NUMBER)
@target_options
@_FORCE
def rollback(
    *, number: int, etcd: str | None, namespace: str | None, config: Path | None, force: bool
) -> None:
    """Set again exactly what was set after entry NUMBER of the history; 0: nothing."""
    _tell(
        asyncio.run(
            _change(find_target(etcd, namespace, config), lambda store: store.rollback(number), force)
        )
    )


@config.command()
@target_options
@_JSON
def watch(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Show what is in force, then each change, a line each. Runs until Ctrl-C."""
    asyncio.run(_watch(find_target(etcd, namespace, config), as_json))


@asynccontextmanager
async def _opened(target: Target) -> AsyncIterator[ConfigStore[Overrides]]:
    async with connect(target.etcd) as etcd:
        yield overrides_in(etcd, target.namespace)


async def _values(target: Target) -> dict[str, Any]:
    async with _opened(target) as store:
        return await store.values()


async def _change(
    target: Target, change: Callable[[ConfigStore[Overrides]], Awaitable[ConfigEntry]], force: bool
) -> ConfigEntry:
    """:param force: whatever the definitions in force say."""
    async with connect(target.etcd) as etcd:
        check = None if force else checked_against(await definitions_in_force(etcd, target.namespace))
        return await change(overrides_in(etcd, target.namespace, check=check))


async def _history(target: Target) -> tuple[ConfigEntry, ...]:
    async with _opened(target) as store:
        return await store.history()


async def _diff(target: Target, older: int | None, newer: int | None) -> tuple[Difference, ...]:
    async with _opened(target) as store:
        return await store.diff(older, newer)


async def _watch(target: Target, as_json: bool) -> None:
    async with _opened(target) as store, aclosing(store.watch()) as configurations:
        async for configuration in configurations:
            values = configuration.model_dump(mode="json", exclude_unset=True)
            if as_json:
                print_json(values)
            else:
                at = utcnow().isoformat(timespec="milliseconds")[11:23]
                shown = [f"{one.path}={_shown(one.after)}" for one in differences({}, values)]
                click.echo(f"{at} {' '.join(shown) or 'nothing is set'}")


def _value_at(values: dict[str, Any], path: str) -> Any:
    try:
        return find(values, parse_path(path))
    except KeyError:
        raise NotFound(
            f"nothing is set at {path}: what the job's module and the settings say applies ('leaderjob status')"
        ) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise click.BadParameter("the JSON is nested too deeply", param_hint="VALUE") from None


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tell(entry: ConfigEntry) -> None:
    click.echo(f"{entry.what}: done, as change {entry.number} by {entry.by}")
