"""``leaderjob lock``: run a command while a lock is held."""

from collections.abc import Sequence
from pathlib import Path

import click

from leaderjob.cli.foreground import run_in_order
from leaderjob.cli.held_command import GRACE_S, Duration, run_while_held, timing_of
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.execution.command import CommandLost
from leaderjob.names import check_name
from leaderjob.recipes import HoldLost, Lock, NotAcquired, Session, SessionLost, Timing

_NOT_ACQUIRED = 4
_LOST = 1


@click.command()
@target_options
@click.option("--try", "tries", is_flag=True, help="Do not wait: give up at once where another holds it.")
@click.option("--wait", "wait_s", type=Duration(), help="Give up after so long, such as 10s [wait for ever].")
@click.option(
    "--ttl",
    "ttl_s",
    type=Duration(),
    default=10.0,
    help="How long the lock outlives a machine that died [10s].",
)
@click.option(
    "--grace",
    "grace_s",
    type=Duration(),
    default=GRACE_S,
    help="How long the command has to stop in order when it is asked to [5s].",
)
@click.option(
    "--conflict-exit-code",
    type=click.IntRange(0, 255),
    default=_NOT_ACQUIRED,
    help="The exit code where it was not acquired [4].",
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def lock(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    tries: bool,
    wait_s: float | None,
    ttl_s: float,
    grace_s: float,
    conflict_exit_code: int,
    name: str,
    command: Sequence[str],
) -> int:
    """Hold the lock NAME while COMMAND runs, and exit with its exit code.

    Write -- before the command. It finds its fencing token, which grows with each holder, in
    LEADERJOB_FENCING_TOKEN. If the lock is lost it is killed, with all that it started; so it is if this process
    dies. SIGTERM and Ctrl-C stop it in order. The lock is `etcdctl lock`'s, on /leaderjob/NAMESPACE/locks/NAME.
    """
    if tries and wait_s is not None:
        raise click.UsageError("--try does not wait: say --try or --wait, not both")
    check_name("name", name)  # before etcd is asked for anything
    target, timing = find_target(etcd, namespace, config), timing_of(ttl_s)
    run = _run(
        target,
        timing,
        name,
        command,
        wait_s=0.0 if tries else wait_s,
        grace_s=grace_s,
        conflict=conflict_exit_code,
    )
    return run_in_order(run)


async def _run(
    target: Target,
    timing: Timing,
    name: str,
    command: Sequence[str],
    *,
    wait_s: float | None,
    grace_s: float,
    conflict: int,
) -> int:
    async with connect(target.etcd) as etcd, await Session.open(etcd, timing) as session:
        lock = Lock(session, name, namespace=target.namespace)
        try:
            held = await lock.acquire(wait_s=wait_s)
        except (NotAcquired, HoldLost, SessionLost) as error:
            click.echo(f"leaderjob: {error}", err=True)
            return conflict
        try:
            return await run_while_held(held, command, token=held.token, grace_s=grace_s)
        except (HoldLost, SessionLost, CommandLost) as error:
            click.echo(f"leaderjob: {error}; the command was stopped", err=True)
            return _LOST
        finally:
            await lock.release(held)
