"""Which etcd and which namespace a command means: options, settings, or the demo that is running."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from leaderjob.client import Client
from leaderjob.connecting import etcd_certificates, etcd_user, replica_certificates
from leaderjob.embedded.running import read_running
from leaderjob.errors import SettingsError
from leaderjob.settings import EtcdSettings, load_settings
from leaderjob.tls import CertificateFiles

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Target:
    """:param replicas: the certificates for the ports of replicas."""

    etcd: EtcdSettings
    replicas: CertificateFiles | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.etcd.endpoints

    @property
    def namespace(self) -> str:
        return self.etcd.namespace

    def client(self) -> Client:
        return Client(
            self.endpoints,
            self.namespace,
            certificates=etcd_certificates(self.etcd),
            user=etcd_user(self.etcd),
            replica_certificates=self.replicas,
        )


def target_options(command: CommandT) -> CommandT:
    """``--etcd``, ``--namespace``, ``--config``: what every command that talks to etcd takes."""
    for option in (
        click.option("--config", type=click.Path(path_type=Path), help="The settings file [leaderjob.toml]."),
        click.option("--namespace", help="All keys are below /leaderjob/NAMESPACE/ [default]."),
        click.option("--etcd", metavar="HOST:PORT[,…]", help="etcd's endpoints [those of a running demo]."),
    ):
        command = option(command)
    return command


def find_target(etcd: str | None, namespace: str | None, config: Path | None) -> Target:
    """:raises SettingsError: no etcd is named, and no demo is running."""
    settings = load_settings(config, {"etcd": {"endpoints": etcd, "namespace": namespace}})
    if settings.etcd.endpoints:
        return Target(settings.etcd, replica_certificates(settings.tls))
    demo = read_running()
    if demo is None:
        raise SettingsError(
            "no etcd is given, and no demo is running: say --etcd HOST:PORT, or start one with 'leaderjob demo'"
        )
    found = Target(EtcdSettings(endpoints=demo.endpoints, namespace=namespace or demo.namespace))
    click.echo(
        f"using the running demo: etcd {','.join(found.endpoints)}, namespace {found.namespace}", err=True
    )
    return found
