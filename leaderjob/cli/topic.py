"""``leaderjob topic``: publish messages, and read them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import click

from leaderjob.cli.output import print_json
from leaderjob.cli.target import Target, find_target, target_options
from leaderjob.connecting import connect
from leaderjob.durations import parse_duration_s
from leaderjob.errors import LeaderjobError
from leaderjob.recipes import Message, Missed, Subscription, Topic


@click.group()
def topic() -> None:
    """Messages in one order for all, kept for a while."""


@topic.command()
@target_options
@click.option("--keep", type=int, help="Let all publishers keep so many messages [as they were told; 1000].")
@click.option(
    "--keep-for", metavar="DURATION", help="And for how long at most [as they were told; for ever]."
)
@click.option("--id", "message_id", help="Publish the one VALUE once: by this id, which an error told.")
@click.argument("name")
@click.argument("values", metavar="VALUE…", nargs=-1, required=True)
def pub(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    keep: int | None,
    keep_for: str | None,
    message_id: str | None,
    name: str,
    values: tuple[str, ...],
) -> None:
    """Publish each VALUE, in this order, up to the first one that cannot be; then says how many were published."""
    if message_id is not None and len(values) != 1:
        raise click.UsageError("--id is that of one message: say one VALUE with it")
    keep_s = None if keep_for is None else parse_duration_s(keep_for)
    target = find_target(etcd, namespace, config)
    revisions: list[int] = []

    async def publish() -> None:
        async with connect(target.etcd) as client:
            made = Topic(client, name, keep_count=keep, keep_s=keep_s, namespace=target.namespace)
            for value in values:
                content = value.encode("utf-8", "surrogateescape")
                revisions.append(await made.publish(content, message_id=message_id))

    try:
        asyncio.run(publish())
    except LeaderjobError:
        if revisions:
            click.echo(
                f"leaderjob: published: {len(revisions)} of {len(values)}, the last one at revision {revisions[-1]}; the "
                "next one was not, or it is not known:",
                err=True,
            )
        raise
    click.echo(f"published: {len(revisions)}, the last one at revision {revisions[-1]}")


@topic.command()
@target_options
@click.option("--last", type=int, default=0, help="Begin with the last so many [those to come].")
@click.option("--count", type=click.IntRange(min=1), help="End after so many [never].")
@click.option(
    "--as", "subscription", metavar="SUBSCRIPTION", help="Continue where this one stopped; made if need be."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.argument("name")
def sub(
    *,
    etcd: str | None,
    namespace: str | None,
    config: Path | None,
    last: int,
    count: int | None,
    subscription: str | None,
    as_json: bool,
    name: str,
) -> None:
    """Print each message, one a line. Says on stderr how many were missed because they are not kept any more."""
    target = find_target(etcd, namespace, config)
    asyncio.run(_read(target, name, subscription, last=last, count=count, as_json=as_json))


@topic.command()
@target_options
@click.argument("name")
@click.argument("subscription")
def unsub(
    *, etcd: str | None, namespace: str | None, config: Path | None, name: str, subscription: str
) -> None:
    """Remove a SUBSCRIPTION; the messages stay."""
    target = find_target(etcd, namespace, config)

    async def remove() -> None:
        async with connect(target.etcd) as client:
            await Topic(client, name, namespace=target.namespace).unsubscribe(subscription)

    asyncio.run(remove())
    click.echo(f"{subscription} is removed")


@topic.command()
@target_options
@click.argument("name")
def remove(*, etcd: str | None, namespace: str | None, config: Path | None, name: str) -> None:
    """Remove the topic NAME, with its messages and subscriptions. Stop its publishers before."""
    target = find_target(etcd, namespace, config)

    async def remove_all() -> int:
        async with connect(target.etcd) as client:
            return await Topic(client, name, namespace=target.namespace).remove()

    click.echo(
        f"topic {name} is removed, with {asyncio.run(remove_all())} messages and all of its subscriptions"
    )


async def _read(
    target: Target, name: str, subscribed_as: str | None, *, last: int, count: int | None, as_json: bool
) -> None:
    async with connect(target.etcd) as client:
        read = Topic(client, name, namespace=target.namespace)
        subscription: Subscription | None = None
        messages: AsyncGenerator[Message | Missed, None]
        if subscribed_as is None:
            messages = read.subscribe(last=last)
        else:
            subscription = await read.subscription(subscribed_as, last=last)
            messages = subscription.messages()
        left = count
        async with aclosing(messages):
            async for item in messages:
                _print(item, as_json)
                if subscription is not None:
                    await subscription.handled(item)
                if isinstance(item, Message) and left is not None:
                    left -= 1
                    if left == 0:
                        return


def _print(item: Message | Missed, as_json: bool) -> None:
    """At once: what is handed out is handled when it is printed."""
    if isinstance(item, Missed):
        if as_json:
            print_json({"missed": item.count, "revision": item.revision})
        how_many = "an unknown number of" if item.count is None else item.count
        click.echo(f"missed {how_many} messages, which are not kept any more", err=True)
        return
    text = item.value.decode("utf-8", "replace")
    if as_json:
        at = item.published_at.isoformat()
        print_json({"id": item.id, "at": at, "revision": item.revision, "number": item.number, "value": text})
    else:
        click.echo(text)
