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

_PLAINTEXT = f"{__name__}.allow_plaintext_password"


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
            allow_plaintext_password=self.etcd.allow_plaintext_password,
            replica_certificates=self.replicas,
        )


def target_options(command: CommandT) -> CommandT:
    """``--etcd``, ``--namespace``, ``--config``, …: what every command that talks to etcd takes."""
    for option in (
        click.option(
            "--allow-plaintext-password",
            is_flag=True,
            expose_value=False,
            callback=_remember_plaintext,
            help="Send etcd's password unencrypted over a network, too.",
        ),
        click.option("--config", type=click.Path(path_type=Path), help="The settings file [leaderjob.toml]."),
        click.option("--namespace", help="All keys are below /leaderjob/NAMESPACE/ [default]."),
        click.option(
            "--etcd", metavar="ENDPOINT[,…]", help="etcd's HOST:PORT or https://HOST:PORT [a running demo's]."
        ),
    ):
        command = option(command)
    return command


def plaintext_flag() -> dict[str, bool]:
    """The setting of ``--allow-plaintext-password``, if the command that runs was given that."""
    context = click.get_current_context(silent=True)
    allowed = context is not None and context.meta.get(_PLAINTEXT)
    return {"allow_plaintext_password": True} if allowed else {}


def _remember_plaintext(context: click.Context, _: click.Parameter, given: bool) -> None:
    # Beside the parameters: a user has a name and a password from the settings alone, so hardly any command needs it.
    if given:
        context.meta[_PLAINTEXT] = True


def find_target(etcd: str | None, namespace: str | None, config: Path | None) -> Target:
    """:raises SettingsError: no etcd is named, and no demo is running."""
    given = {"endpoints": etcd, "namespace": namespace, **plaintext_flag()}
    settings = load_settings(config, {"etcd": given})
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
