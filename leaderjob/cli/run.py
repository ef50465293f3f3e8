"""``leaderjob run``: start one replica."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from leaderjob.app import run_replica
from leaderjob.cli.replica_options import load_replica_settings, replica_options
from leaderjob.telemetry.logs import configure_logs
from leaderjob.telemetry.redaction import Redaction


@click.command()
@replica_options
def run(*, config: Path | None, **flags: Any) -> None:
    """Start one replica; SIGTERM or Ctrl-C ends it in order.

    Start as many as you like, each with an --id of its own: one leads and runs the jobs, all serve.
    """
    found = load_replica_settings(config, flags)
    settings = found.settings
    if found.of_demo:
        click.echo(f"using the etcd of the running demo: {','.join(settings.etcd.endpoints)}", err=True)
    redaction = Redaction()
    configure_logs(
        settings.replica.id,
        settings.etcd.namespace,
        format=settings.log.format,
        level=settings.log.level,
        mask=redaction.mask,
    )
    asyncio.run(run_replica(settings, redaction))
    # Threads that hang in a system call must not keep a process that has done everything else.
    sys.stderr.flush()
    os._exit(0)
