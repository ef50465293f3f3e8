"""``leaderjob resign`` and ``leaderjob transfer``: let another replica lead, in order."""

import asyncio
import time
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.client import Client
from leaderjob.records.narrate import leader_facts


@click.command()
@target_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def resign(*, etcd: str | None, namespace: str | None, config: Path | None, as_json: bool) -> None:
    """Let the leader give up office to whoever is next in line.

    It admits nothing more. Runs under way may end, for as long as its setting election.drain allows; then they
    are stopped, and the next leader starts them again.
    """
    _print(asyncio.run(_hand_over(find_target(etcd, namespace, config), None)), as_json=as_json)


@click.command()
@target_options
@click.option("--to", required=True, metavar="REPLICA", help="Who is to lead.")
@click.option("--force", is_flag=True, help="Also if it lacks more of the jobs than another candidate.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def transfer(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    to: str,
    force: bool,
    as_json: bool,
) -> None:
    """Let REPLICA lead: candidates before it queue again, then the leader gives up office as with resign.

    Refused if REPLICA lacks more of the jobs than another candidate does: the jobs that the leader lacks do not run.
    """
    found = asyncio.run(_hand_over(find_target(etcd, namespace, config), to, force=force))
    _print(found, as_json=as_json)


async def _hand_over(target: Target, to: str | None, *, force: bool = False) -> dict[str, Any]:
    """Returns when another term has begun."""
    async with target.client() as client:
        token = await client.resign(to=to, force=force)
        given_up_at = time.monotonic()
        leader = await _next_leader(client, token)
        return leader | {"after_s": round(time.monotonic() - given_up_at, 3), "former_token": token}


async def _next_leader(client: Client, token: int) -> dict[str, Any]:
    async with aclosing(client.follow()) as batches:
        async for _, view in batches:
            leader = leader_facts(view)
            stored = view.leader
            if (
                leader is not None
                and leader["token"] > token
                and (stored is None or stored.record.leading_since)
            ):
                return leader
    raise AssertionError("a feed does not end")


def _print(leader: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(leader)
    else:
        click.echo(f"{leader['replica']} leads, fencing token {leader['token']}")
