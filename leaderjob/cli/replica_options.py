"""The options that say what a replica is, declared once for the commands that take them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from leaderjob.cli.target import plaintext_flag, target_options
from leaderjob.embedded.running import read_running
from leaderjob.settings import Loaded, Settings, load_with_origins

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_SETTING_OF = {
    "replica_id": "replica.id",
    "etcd": "etcd.endpoints",
    "namespace": "etcd.namespace",
    "allow_plaintext_password": "etcd.allow_plaintext_password",
    "jobs": "jobs",
    "ttl": "election.ttl",
    "state_dir": "replica.state_dir",
    "listen": "replica.listen",
    "advertise": "replica.advertise",
    "insecure": "replica.insecure",
}
"""Which setting a parameter of the command sets."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What a replica would run with.

    :param loaded: the settings, and where they came from.
    :param of_demo: the names of those that come from a demo that runs here, as no etcd was named.
    """

    loaded: Loaded
    of_demo: frozenset[str] = frozenset()

    @property
    def settings(self) -> Settings:
        return self.loaded.settings


def replica_options(command: CommandT) -> CommandT:
    """``--config``, and the settings that have a flag: ``--id``, ``--etcd``, ``--jobs``, …"""
    for option in (
        click.option(
            "--insecure", is_flag=True, default=None, help="Listen beyond loopback without encryption."
        ),
        click.option("--advertise", metavar="HOST:PORT", help="The address that others reach it at."),
        click.option(
            "--listen", metavar="HOST:PORT", help="Where it answers queries [127.0.0.1:0, a free port]."
        ),
        click.option(
            "--state-dir", type=click.Path(path_type=Path), help="Where this replica keeps what it serves."
        ),
        click.option("--ttl", metavar="DURATION", help="How long a lease outlives its last keepalive [10s]."),
        click.option(
            "--jobs", metavar="MODULE[,…]", help="The job modules to run, such as jobs.search_index."
        ),
        target_options,
        click.option(
            "--id",
            "replica_id",
            metavar="NAME",
            help="This replica's name, stable across restarts [the host's].",
        ),
    ):
        command = option(command)
    return command


def flag_names(command: click.Command) -> dict[str, str]:
    """The flag of ``command`` for each setting that has one."""
    return {
        _SETTING_OF[parameter.name]: parameter.opts[0]
        for parameter in command.params
        if parameter.name in _SETTING_OF
    }


def load_replica_settings(config: Path | None, given: Mapping[str, Any]) -> Configured:
    """Settings from what :func:`replica_options` parsed, the variables and the file; without any etcd, from
    the demo that runs here. :raises SettingsError: something is wrong; the message names it.
    """
    flags: dict[str, Any] = {}
    for name, value in given.items():
        group, _, setting = _SETTING_OF[name].rpartition(".")
        (flags.setdefault(group, {}) if group else flags)[setting] = value
    flags.setdefault("etcd", {}).update(plaintext_flag())
    loaded = load_with_origins(config, flags)
    demo = read_running()
    if loaded.settings.etcd.endpoints or demo is None:
        return Configured(loaded)
    of_demo = {"etcd.endpoints"} if given["namespace"] else {"etcd.endpoints", "etcd.namespace"}
    flags["etcd"] = {
        "endpoints": list(demo.endpoints),
        "namespace": given["namespace"] or demo.namespace,
    }
    return Configured(load_with_origins(config, flags), frozenset(of_demo))
