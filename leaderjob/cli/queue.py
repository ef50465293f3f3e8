"""``leaderjob queue``: put items into a queue, take them out, have a command run for each; dead letters."""

import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from leaderjob.cli.foreground import run_in_order
from leaderjob.cli.held_command import GRACE_S, run_while_held
from leaderjob.cli.output import print_json
from leaderjob.cli.table import Column, print_table
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.durations import parse_duration_s
from leaderjob.errors import LeaderjobError
from leaderjob.etcd import Etcd
from leaderjob.execution.command import CommandNotRun
from leaderjob.execution.guarded import StartFailed
from leaderjob.names import check_name
from leaderjob.recipes import ClaimLost, Queue, QueueView, Session, SessionLost
from leaderjob.recipes.queue import MAX_TRIES
from leaderjob.recipes.queue_item import Item

_FOR_EVER = "for ever"
_LOST = 1  # as with a lock; 4 is for a queue that is empty

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
T = TypeVar("T")


@click.group()
def queue() -> None:
    """A queue in etcd: each item to one consumer at a time, in order.

    For thousands of items, not millions: docs/recipes/queue.md says what it promises, and what to use otherwise.
    """


def _named(command: CommandT) -> CommandT:
    return target_options(click.argument("name")(command))


def _newest_first(command: CommandT) -> CommandT:
    return click.option("--newest-first", is_flag=True, help="Last in, first out.")(command)


@queue.command()
@_named
@click.argument("values", metavar="VALUE…", nargs=-1, required=True)
def push(
    *, etcd: str | None, namespace: str | None, config: Path | None, name: str, values: tuple[str, ...]
) -> None:
    """Put each VALUE into the queue NAME, in this order; prints the id of each. '-' is what stdin has, to its end."""
    target = find_target(etcd, namespace, config)

    # Before etcd is asked for a lease, which would have to be kept alive meanwhile.
    contents = [sys.stdin.buffer.read() if value == "-" else os.fsencode(value) for value in values]

    async def put_all(opened: Queue) -> None:
        for content in contents:
            click.echo(await opened.put(content))

    _with_queue(target, name, put_all)


@queue.command()
@_named
@_newest_first
@click.option(
    "--wait",
    is_flag=False,
    flag_value=_FOR_EVER,
    metavar="[DURATION]",
    help="Wait for an item: for so long, or for ever [exit 4 if there is none].",
)
@click.option(
    "--max-tries",
    type=click.IntRange(min=1),
    default=MAX_TRIES,
    show_default=True,
    help="With a command: an item that failed so often becomes a dead letter.",
)
@click.argument("command", metavar="[-- COMMAND…]", nargs=-1, type=click.UNPROCESSED)
def pop(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    name: str,
    newest_first: bool,
    wait: str | None,
    max_tries: int,
    command: tuple[str, ...],
) -> None:
    """Take the next item out of the queue NAME and print it: at most once.

    With a command: claim it and run that with the item on its stdin, at least once. If it ends with 0 the item is
    removed, otherwise it goes back to its place; its exit code is ours. LEADERJOB_ITEM_ID, LEADERJOB_ITEM_TRIES and
    LEADERJOB_FENCING_TOKEN are in its environment. It is killed before another consumer may have the item.
    """
    if wait is None:
        wait_s: float | None = 0.0
    else:
        wait_s = None if wait == _FOR_EVER else parse_duration_s(wait)
    target = find_target(etcd, namespace, config)

    async def take(opened: Queue) -> None:
        item = await opened.get(wait_s=wait_s)
        out = sys.stdout.buffer
        out.write(item.value + b"\n")
        out.flush()

    async def work(opened: Queue) -> None:
        async with opened.claim(wait_s=wait_s) as item:
            told = {"LEADERJOB_ITEM_ID": item.id, "LEADERJOB_ITEM_TRIES": str(item.tries)}
            try:
                code = await run_while_held(
                    item, command, token=item.token, grace_s=GRACE_S, stdin=item.value, environment=told
                )
            except (CommandNotRun, StartFailed):
                await item.leave(counts=False)  # that is no matter of the item
                raise
            if code != 0:
                raise _CommandFailed(command, code)

    try:
        _with_queue(target, name, work if command else take, newest_first=newest_first, max_tries=max_tries)
    except (ClaimLost, SessionLost) as lost:
        click.echo(f"leaderjob: {lost}", err=True)
        raise click.exceptions.Exit(lost.exit_code if not command else _LOST) from None
    except _CommandFailed as failed:
        click.echo(f"leaderjob: {failed}", err=True)
        raise click.exceptions.Exit(failed.code) from None


@queue.command()
@_named
@_newest_first
def peek(
    *, etcd: str | None, namespace: str | None, config: Path | None, name: str, newest_first: bool
) -> None:
    """Print the item of the queue NAME that is next, and leave it there [exit 4 if there is none]."""
    target = find_target(etcd, namespace, config)

    async def look(opened: QueueView) -> Item | None:
        return await opened.peek()

    item = _with_view(target, name, look, newest_first=newest_first)
    if item is None:
        click.echo(f"leaderjob: queue {name} has no item that nobody has claimed", err=True)
        raise click.exceptions.Exit(4)
    sys.stdout.buffer.write(item.value + b"\n")


@queue.command()
@_named
def length(*, etcd: str | None, namespace: str | None, config: Path | None, name: str) -> None:
    """Print how many items the queue NAME has, those that consumers have claimed among them."""
    target = find_target(etcd, namespace, config)

    async def count(opened: QueueView) -> int:
        return await opened.length()

    click.echo(_with_view(target, name, count))


@queue.command()
@_named
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def dead(*, etcd: str | None, namespace: str | None, config: Path | None, name: str, as_json: bool) -> None:
    """List the dead letters of the queue NAME, the first buried first."""
    target = find_target(etcd, namespace, config)

    async def letters(opened: QueueView) -> Sequence[Item]:
        return await opened.dead()

    found = _with_view(target, name, letters)
    rows = [(item.id, str(item.tries), item.value.decode(errors="backslashreplace")) for item in found]
    if not as_json:
        print_table(["ID", "TRIES", "VALUE"], rows)
        return
    for item, (_, _, shown) in zip(found, rows, strict=True):
        print_json({"id": item.id, "tries": item.tries, "value": shown})


@queue.command()
@_named
@click.argument("item_id", metavar="ID")
def requeue(*, etcd: str | None, namespace: str | None, config: Path | None, name: str, item_id: str) -> None:
    """Put the dead letter ID back at the end of the queue NAME."""
    target = find_target(etcd, namespace, config)

    async def put_back(opened: Queue) -> None:
        await opened.requeue(item_id)

    _with_queue(target, name, put_back)
    click.echo(f"item {item_id} is at the end of queue {name} again")


@queue.command()
@_named
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def foreign(
    *, etcd: str | None, namespace: str | None, config: Path | None, name: str, as_json: bool
) -> None:
    """List the keys in the queue NAME that no queue has written. They are passed over until they are corrected."""
    target = find_target(etcd, namespace, config)

    async def keys(opened: QueueView) -> dict[str, str]:
        return await opened.foreign()

    found = _with_view(target, name, keys)
    if as_json:
        print_json(found)
    else:
        print_table(["KEY", Column("WHY", prose=True)], sorted(found.items()))


class _CommandFailed(LeaderjobError):
    """The command for an item did not end with 0."""

    def __init__(self, command: Sequence[str], code: int) -> None:
        super().__init__(f"{command[0]} ended with {code}: the item was given back")
        self.code = code


def _with_queue(
    target: Target,
    name: str,
    use: Callable[[Queue], Awaitable[T]],
    *,
    newest_first: bool = False,
    max_tries: int = MAX_TRIES,
) -> T:
    async def run(etcd: Etcd) -> T:
        async with await Session.open(etcd) as session:
            opened = Queue(
                session, name, namespace=target.namespace, newest_first=newest_first, max_tries=max_tries
            )
            return await use(opened)

    check_name("name", name)  # before etcd is asked for a lease
    return _in_order(target, run)


def _with_view(
    target: Target, name: str, use: Callable[[QueueView], Awaitable[T]], *, newest_first: bool = False
) -> T:
    check_name("name", name)
    return _in_order(
        target,
        lambda etcd: use(QueueView(etcd, name, namespace=target.namespace, newest_first=newest_first)),
    )


def _in_order(target: Target, use: Callable[[Etcd], Awaitable[T]]) -> T:
    found: list[T] = []

    async def run() -> int:
        async with connect(target.etcd) as etcd:
            found.append(await use(etcd))
        return 0

    code = run_in_order(run())
    if code:
        raise click.exceptions.Exit(code)
    return found[0]
