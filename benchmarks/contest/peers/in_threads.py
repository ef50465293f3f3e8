"""Turns of a client that blocks: as many threads as there are calls in flight."""

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Protocol

from contest.peers.tally import Tally, Told, say
from contest.turns import VALUE_BYTES, Calls, Outcome, Watching, key

_VALUE = b"." * VALUE_BYTES


class BlockingClient(Protocol):
    """What a contestant's client is made to look like; see ``AsyncClient``."""

    def get(self, key: str) -> bytes:
        """The value. :raises LookupError: there is none."""

    def put(self, key: str, value: bytes) -> None: ...

    def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        """Write the key if the fence was created at that revision, else read the fence; whether it was."""

    def watch(self, prefix: str, since: int, told: Told) -> None:
        """Tell each event after ``since``, the value now and the one before, until ``told`` says that it was
        enough."""


def answer_turns(connect: Callable[[str, int], BlockingClient]) -> None:
    """Answer turns until there are no more. ``connect`` is given the address of etcd's client port."""
    client = connect(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        turn = json.loads(line)
        outcome = _watch(client, Watching(**turn)) if "prefix" in turn else _call(client, Calls(**turn))
        say(json.dumps(asdict(outcome)))


def _call(client: BlockingClient, turn: Calls) -> Outcome:
    call = _one_call(client, turn)
    numbers = iter(range(turn.calls))
    taking = threading.Lock()
    latencies_s: list[float] = []

    def one_after_another() -> None:
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            sent_s = time.monotonic()
            call(key(turn.kind, number))
            latencies_s.append(time.monotonic() - sent_s)

    began_s, began_cpu_s = time.monotonic(), time.process_time()
    if turn.in_flight == 1:
        one_after_another()
    else:
        with ThreadPoolExecutor(turn.in_flight) as pool:
            for thread in [pool.submit(one_after_another) for _ in range(turn.in_flight)]:
                thread.result()
    return Outcome(began_s, time.monotonic(), time.process_time() - began_cpu_s, latencies_s)


def _one_call(client: BlockingClient, turn: Calls) -> Callable[[str], object]:
    def txn(key: str) -> None:
        if not client.txn(turn.fence, turn.fence_revision, key, _VALUE):
            raise AssertionError(f"the fence was not created at {turn.fence_revision}")

    kinds: dict[str, Callable[[str], object]] = {
        "get": client.get,
        "put": lambda key: client.put(key, _VALUE),
        "txn": txn,
    }
    return kinds[turn.kind]


def _watch(client: BlockingClient, turn: Watching) -> Outcome:
    tally = Tally(turn)
    client.watch(turn.prefix, turn.since, tally.told)
    return tally.outcome()
