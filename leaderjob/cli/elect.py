"""``leaderjob elect``: run a command on one machine of several, the one that is elected."""

import asyncio
import json
import os
import socket
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import click

from leaderjob.cli.foreground import run_in_order
from leaderjob.cli.held_command import GRACE_S, Duration, run_while_held, timing_of
from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.etcd import AmbiguousWrite, EtcdUnavailable, KeyValue, NoSpace
from leaderjob.execution.command import CommandLost
from leaderjob.names import check_name
from leaderjob.recipes import CampaignLost, Election, Session, SessionLost, TermLost, Timing

_LOST = (TermLost, CampaignLost, SessionLost, EtcdUnavailable, AmbiguousWrite, NoSpace, CommandLost)
_NOBODY = 4
_PAUSE_S = 1.0


@click.command()
@target_options
@click.option("--value", help="What others see of this candidate [its host and pid].")
@click.option(
    "--ttl",
    "ttl_s",
    type=Duration(),
    default=10.0,
    help="How long an office outlives a machine that died [10s].",
)
@click.option(
    "--grace",
    "grace_s",
    type=Duration(),
    default=GRACE_S,
    help="How long the command has to stop in order when it is asked to [5s].",
)
@click.option(
    "--leader", is_flag=True, help="Run nothing: print what the leader says of itself; exit code 4: nobody."
)
@click.option("--listen", is_flag=True, help="Run nothing: print that, and again at each change.")
@click.option("--json", "as_json", is_flag=True, help="With --leader and --listen: print JSON objects.")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def elect(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    value: str | None,
    ttl_s: float,
    grace_s: float,
    leader: bool,
    listen: bool,
    as_json: bool,
    name: str,
    command: Sequence[str],
) -> int:
    """Run COMMAND only while elected in the election NAME; exit with its exit code.

    Write -- before the command, and start the same on several machines: it runs on one of them. When it ends by
    itself this candidate resigns and exits. When office is lost the command is killed, with all that it started, and
    the candidate stands again. It finds its fencing token, which grows with each leader, in LEADERJOB_FENCING_TOKEN.
    The election is `etcdctl elect`'s, on /leaderjob/NAMESPACE/elections/NAME.
    """
    if (leader or listen) == bool(command):
        raise click.UsageError("say what to run after NAME --, or --leader or --listen, and not both")
    target, timing = find_target(etcd, namespace, config), timing_of(ttl_s)
    check_name("name", name)
    if command:
        return run_in_order(_stand(target, timing, name, _said(value), command, grace_s=grace_s))
    return run_in_order(
        _listen(target, name, as_json=as_json) if listen else _tell(target, name, as_json=as_json)
    )


def _said(value: str | None) -> bytes:
    if value is not None:
        return value.encode("utf-8", "surrogateescape")
    return json.dumps({"v": 1, "host": socket.gethostname(), "pid": os.getpid()}).encode()


async def _stand(
    target: Target, timing: Timing, name: str, value: bytes, command: Sequence[str], *, grace_s: float
) -> int:
    """Stand again and again, until the command ends by itself."""
    async with connect(target.etcd) as etcd:
        election = Election(etcd, name, namespace=target.namespace)
        await election.leader()  # whoever cannot reach etcd at all is told so at once
        while True:
            try:
                return await _one_term(election, timing, value, command, grace_s=grace_s)
            except _LOST as error:
                click.echo(f"leaderjob: {error}; standing again", err=True)
            await asyncio.sleep(_PAUSE_S)


async def _one_term(
    election: Election, timing: Timing, value: bytes, command: Sequence[str], *, grace_s: float
) -> int:
    async with await Session.open(election.etcd, timing) as session:
        leadership = await election.campaign(session, value)
        try:
            return await run_while_held(leadership, command, token=leadership.term.token, grace_s=grace_s)
        finally:
            await election.resign(leadership)


async def _tell(target: Target, name: str, *, as_json: bool) -> int:
    async with connect(target.etcd) as etcd:
        leader = await Election(etcd, name, namespace=target.namespace).leader()
    if leader is None:
        click.echo("leaderjob: nobody leads", err=True)
        return _NOBODY
    _print(leader, as_json=as_json)
    return 0


async def _listen(target: Target, name: str, *, as_json: bool) -> int:
    async with connect(target.etcd) as etcd:
        election = Election(etcd, name, namespace=target.namespace)
        async with aclosing(election.observe()) as leaders:
            async for leader in leaders:
                if leader is not None:
                    _print(leader, as_json=as_json)
                elif as_json:
                    print_json(None)
    raise AssertionError("an observation does not end")


def _print(leader: KeyValue, *, as_json: bool) -> None:
    value = leader.value.decode("utf-8", "replace")
    if as_json:
        print_json({"value": value, "token": leader.create_revision, "key": leader.key})
    else:
        click.echo(value)
