"""``leaderjob settings``: what is in force, and where it was set."""

import json
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr

from leaderjob.cli.output import print_json
from leaderjob.cli.replica_options import Configured, flag_names, load_replica_settings, replica_options
from leaderjob.cli.table import print_table

_MASK = "********"
_DEMO = "the running demo"


@click.command()
@replica_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def settings(context: click.Context, /, *, config: Path | None, as_json: bool, **flags: Any) -> None:
    """Show what 'leaderjob run' with the same options would run with, and where each value came from.

    Starts nothing, and asks no etcd. Passwords and DSNs are masked. These are the settings that a replica starts with;
    what is changed for a job while replicas run is shown by 'leaderjob config get'.
    """
    found = load_replica_settings(config, flags)
    values = found.settings.in_force()
    origins = _origins(found, flag_names(context.command))
    if as_json:
        print_json(
            {
                name: {"value": _plain(value), "from": origins[name][0], "name": origins[name][1]}
                for name, value in values.items()
            }
        )
        return
    print_table(
        ["SETTING", "VALUE", "FROM"],
        [
            [name, _shown(value), " ".join(part for part in origins[name] if part)]
            for name, value in values.items()
        ],
    )


def _origins(found: Configured, flags: dict[str, str]) -> dict[str, tuple[str, str | None]]:
    """For each setting what set it, and which one of those."""
    origins: dict[str, tuple[str, str | None]] = {}
    for name, origin in found.loaded.origins.items():
        if name in found.of_demo:
            origins[name] = (_DEMO, None)
        elif origin.kind == "flag":
            origins[name] = (origin.kind, flags[name])
        else:
            origins[name] = (origin.kind, origin.name)
    return origins


def _plain(value: Any) -> Any:
    """A value as JSON has it; durations are in seconds."""
    if isinstance(value, SecretStr):
        return _MASK
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    """A value as it could be written on a command line; nothing where nothing is set."""
    if value is None or value == ():
        return ""
    if isinstance(value, SecretStr):
        return _MASK
    if isinstance(value, bool | dict):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):  # all our floats are durations
        return f"{value:g}s"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)
