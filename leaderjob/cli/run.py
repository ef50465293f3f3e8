"""``leaderjob run``: start one replica."""

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from leaderjob.app import run_replica
from leaderjob.cli.replica_options import load_replica_settings, replica_options
from leaderjob.errors import LeaderjobError
from leaderjob.telemetry.events import Events
from leaderjob.telemetry.logs import configure_logs, is_text
from leaderjob.telemetry.redaction import Redaction


@click.command()
@replica_options
def run(*, config: Path | None, **flags: Any) -> int:
    """Start one replica; SIGTERM, Ctrl-C or the end of its terminal (SIGHUP) ends it gracefully.

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
    as_text = is_text(settings.log.format, sys.stderr)
    if as_text:
        logging.getLogger("leaderjob").addFilter(_is_told_by_no_sentence)
    try:
        asyncio.run(run_replica(settings, redaction))
    except Exception as error:  # noqa: BLE001 - it ends here, and is told
        reason = _first(error)
        if as_text:
            click.echo(f"leaderjob: {redaction.mask(str(reason) or type(reason).__name__)}", err=True)
        return reason.exit_code if isinstance(reason, LeaderjobError) else 1
    # Threads that hang in a system call must not keep a process that has done everything else.
    with suppress(OSError):  # its terminal may be gone
        sys.stderr.flush()
    os._exit(0)


def _is_told_by_no_sentence(record: logging.LogRecord) -> bool:
    """Why a replica does not start is told to people at the end; twice would be once too often."""
    fields = getattr(record, "fields", {})
    return getattr(record, "event", "") != Events.REPLICA_FAILED.name.lower() or "trace" in fields


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
