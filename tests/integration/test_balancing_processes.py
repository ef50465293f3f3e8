"""The greeter of the examples: real servers, of which one is killed, one comes and one is drained, and no request fails."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import balanced_channel
from tests.support.commands import Lines, environment
from tests.support.streams import run_with_streams

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/examples/greeter"
HELLO = "/Greeter/SayHello"


@contextmanager
def server(etcd: EmbeddedEtcd) -> Iterator[Lines]:
    with Lines(sys.executable, str(EXAMPLE / "server.py"), etcd.endpoint) as lines:
        lines.until(lambda line: line.startswith("serving"))
        yield lines


def test_no_request_fails_while_one_is_killed_one_comes_and_one_is_drained(own_etcd: EmbeddedEtcd) -> None:
    def pid_of(answer: bytes) -> int:
        return int(answer.rsplit(b" ", 1)[1])

    async def main(first: Lines, second: Lines, third: Lines, fourth: Iterator[Lines]) -> None:
        answered: Counter[int] = Counter()
        news = asyncio.Condition()
        over = False

        async def ask() -> None:
            while not over:
                answered[pid_of(await say_hello(b"Ada", timeout=20))] += 1
                async with news:
                    news.notify_all()
                await asyncio.sleep(0.002)

        async def more_of(count: int, *servers: Lines) -> None:
            """Return when each of these has answered so many more requests."""
            wanted = {each.pid: answered[each.pid] + count for each in servers}
            async with asyncio.timeout(20), news:
                await news.wait_for(lambda: all(answered[pid] >= wanted[pid] for pid in wanted))

        async with (
            Etcd([own_etcd.endpoint]) as client,
            balanced_channel(client, "greeter", repeatable=[HELLO]) as channel,
        ):
            say_hello = channel.unary_unary(HELLO)
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(ask())
                await more_of(20, first, second, third)
                os.kill(first.pid, signal.SIGKILL)
                await more_of(20, second, third)
                added = await asyncio.to_thread(next, fourth)
                await more_of(20, second, third, added)
                os.kill(second.pid, signal.SIGTERM)
                assert await asyncio.to_thread(second.wait, 20) == 0
                seen = answered[second.pid]
                await more_of(20, third, added)
                assert answered[second.pid] == seen
                over = True

    def come() -> Iterator[Lines]:
        with server(own_etcd) as added:
            yield added

    fourth = come()
    with server(own_etcd) as first, server(own_etcd) as second, server(own_etcd) as third:
        try:
            run_with_streams(main(first, second, third, fourth), timeout_s=90)
        finally:
            fourth.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_client_of_the_example_greets(own_etcd: EmbeddedEtcd) -> None:
    with server(own_etcd) as greeter:
        told = subprocess.run(
            [sys.executable, EXAMPLE / "client.py", own_etcd.endpoint, "Ada", "Grace"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    assert told.stdout.splitlines() == [f"Hello, {name}, from {greeter.pid}" for name in ("Ada", "Grace")]
