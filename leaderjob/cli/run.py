"""``leaderjob run``: start one replica."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from leaderjob.app import run_replica
from leaderjob.cli.target import target_options
from leaderjob.embedded.running import read_running
from leaderjob.settings import load_settings
from leaderjob.telemetry.logs import log_to_stderr


@click.command()
@click.option(
    "--id", "replica_id", metavar="NAME", help="This replica's name, stable across restarts [the host's]."
)
@target_options
@click.option("--jobs", metavar="MODULE[,…]", help="The job modules to run, such as jobs.search_index.")
@click.option("--ttl", metavar="DURATION", help="How long a lease outlives its last keepalive [10s].")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where this replica keeps what it serves.")
@click.option("--listen", metavar="HOST:PORT", help="Where it answers queries [127.0.0.1:0, a free port].")
@click.option("--advertise", metavar="HOST:PORT", help="The address that others reach it at.")
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without encryption.")
def run(
    *,
    replica_id: str | None,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    jobs: str | None,
    ttl: str | None,
    state_dir: Path | None,
    listen: str | None,
    advertise: str | None,
    insecure: bool | None,
) -> None:
    """Start one replica; SIGTERM or Ctrl-C ends it in order.

    Start as many as you like, each with an --id of its own: one leads and runs the jobs, all serve.
    """
    flags: dict[str, Any] = {
        "etcd": {"endpoints": etcd, "namespace": namespace},
        "jobs": jobs,
        "election": {"ttl": ttl},
        "replica": {
            "id": replica_id,
            "state_dir": state_dir,
            "listen": listen,
            "advertise": advertise,
            "insecure": insecure,
        },
    }
    settings = load_settings(config, flags)
    demo = read_running()
    if not settings.etcd.endpoints and demo is not None:
        click.echo(f"using the etcd of the running demo: {','.join(demo.endpoints)}", err=True)
        flags["etcd"] = {"endpoints": list(demo.endpoints), "namespace": namespace or demo.namespace}
        settings = load_settings(config, flags)
    log_to_stderr(settings.replica.id)
    asyncio.run(run_replica(settings))
    # Threads that hang in a system call must not keep a process that has done everything else.
    sys.stderr.flush()
    os._exit(0)
