"""What a command that waits says when etcd goes away, and when it is back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import click

from leaderjob.client import Client
from leaderjob.durations import format_duration
from leaderjob.etcd import EtcdUnavailable


@asynccontextmanager
async def outages_told(client: Client) -> AsyncIterator[None]:
    """Meanwhile, tell on stderr of each outage of etcd once, and of its end."""
    telling = asyncio.create_task(_tell(client), name="outages of etcd")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait([telling])


async def _tell(client: Client) -> None:
    loop = asyncio.get_running_loop()
    lost_at = 0.0
    async with aclosing(client.outages()) as changes:
        async for error in changes:
            if error is None:
                click.echo(f"etcd answers again, after {format_duration(loop.time() - lost_at)}", err=True)
                continue
            lost_at = loop.time()
            reason = str(error)
            if isinstance(error, EtcdUnavailable):
                reason = f"etcd does not answer at {', '.join(error.endpoints)}: {error.detail}"
            click.secho(f"{reason}; waiting for it", fg="yellow", err=True)
