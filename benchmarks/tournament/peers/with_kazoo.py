"""``kazoo`` on ZooKeeper: one client, which is one session, and threads; each thread with a recipe object of its own."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kazoo.client import KazooClient  # type: ignore[import-not-found]

from tournament.peers.serving import answer_turns
from tournament.turns import FOLLOWERS, SETTLE_S, TTL_S, VALUE, Outcomes, Stopwatch, Turn

_EMPTY_PAUSE_S = 0.001
_POLL_S = 0.01
_TIMEOUT_S = 20.0


class WithKazoo:
    def __init__(self, client: Any) -> None:
        self._client = client

    def lock(self, turn: Turn) -> Outcomes:
        lock = self._client.Lock(f"/{turn.name}")
        self._client.ensure_path(f"/{turn.name}")
        latencies_s = []
        stopwatch = Stopwatch()
        for _ in range(turn.count):
            began_s = time.monotonic()
            with lock:
                pass
            latencies_s.append(time.monotonic() - began_s)
        return {"each": stopwatch.outcome(latencies_s)}

    def handover(self, turn: Turn) -> Outcomes:
        path = f"/{turn.name}"
        first = self._client.Lock(path)
        first.acquire()

        def take() -> None:
            with self._client.Lock(path):
                pass

        with ThreadPoolExecutor(turn.crowd) as pool:
            waiters = [pool.submit(take) for _ in range(turn.crowd)]
            while len(self._client.get_children(path)) <= turn.crowd:
                time.sleep(_POLL_S)
            time.sleep(SETTLE_S)
            stopwatch = Stopwatch()
            first.release()
            for waiter in waiters:
                waiter.result()
            return {"all": stopwatch.outcome()}

    def queue(self, turn: Turn) -> Outcomes:
        """``Queue``, whose ``get`` does not wait: it is asked again after a millisecond."""

        def consume(queue: Any) -> None:
            for _ in range(turn.count // turn.crowd):
                while queue.get() is None:
                    time.sleep(_EMPTY_PAUSE_S)

        return self._through_a_queue(turn, self._client.Queue, consume)

    def claims(self, turn: Turn) -> Outcomes:
        """``LockingQueue``: an item is locked, and consumed when it is done."""

        def consume(queue: Any) -> None:
            for _ in range(turn.count // turn.crowd):
                queue.get()
                if not queue.consume():
                    raise AssertionError("an item was not consumed")

        return self._through_a_queue(turn, self._client.LockingQueue, consume)

    def _through_a_queue(
        self, turn: Turn, recipe: Callable[[str], Any], consume: Callable[[Any], None]
    ) -> Outcomes:
        def produce(queue: Any) -> None:
            for _ in range(turn.count // turn.crowd):
                queue.put(VALUE)

        path = f"/{turn.name}"
        ends = [(recipe(path), recipe(path)) for _ in range(turn.crowd)]
        for one, other in ends:
            len(one), len(other)  # makes its nodes, which is not what is measured
        with ThreadPoolExecutor(2 * turn.crowd) as pool:
            stopwatch = Stopwatch()
            working = [pool.submit(consume, other) for _, other in ends]
            working += [pool.submit(produce, one) for one, _ in ends]
            for work in working:
                work.result()
            return {"all": stopwatch.outcome()}

    def fan_out(self, turn: Turn) -> Outcomes:
        """A node that is set, and data watches on it."""
        path = f"/{turn.name}"
        self._client.create(path, VALUE)
        heard = _Heard(turn.crowd)

        def tell(value: bytes | None, _: object) -> bool:
            heard.one(value)
            return heard.open

        for _ in range(turn.crowd):
            self._client.DataWatch(path, tell)
        time.sleep(SETTLE_S)
        last_s, each_s = [], []
        stopwatch = Stopwatch()
        for number in range(turn.count):
            value = b"%d" % number + VALUE
            heard.again(value)
            began_s = time.monotonic()
            self._client.set(path, value)
            at_s = heard.by_all()
            each_s += [one_s - began_s for one_s in at_s]
            last_s.append(max(at_s) - began_s)
        outcomes = {"last": stopwatch.outcome(last_s), "each": stopwatch.outcome(each_s)}
        heard.open = False
        self._client.delete(path)
        return outcomes

    def registry(self, turn: Turn) -> Outcomes:
        """A node for each instance, which ends with the session; children watches. All instances share a session."""
        path = f"/{turn.name}"
        self._client.ensure_path(path)
        views = _Views(FOLLOWERS)
        for number in range(FOLLOWERS):
            self._client.ChildrenWatch(path, views.follower(number))
        nodes = [f"{path}/10.0.0.1:{port}" for port in range(1, turn.crowd + 1)]
        stopwatch = Stopwatch()
        joining = [self._client.create_async(node, ephemeral=True) for node in nodes]
        for one in joining:
            one.get()
        views.until_all_show(turn.crowd)
        outcomes = {"all": stopwatch.outcome()}
        time.sleep(SETTLE_S)
        join_s, leave_s = [], []
        for node in nodes[: turn.count]:
            began_s = time.monotonic()
            self._client.delete(node)
            views.until_all_show(turn.crowd - 1)
            leave_s.append(time.monotonic() - began_s)
            began_s = time.monotonic()
            self._client.create(node, ephemeral=True)
            views.until_all_show(turn.crowd)
            join_s.append(time.monotonic() - began_s)
        views.open = False
        for leaving in [self._client.delete_async(node) for node in nodes]:
            leaving.get()
        return outcomes | {"join": stopwatch.outcome(join_s), "leave": stopwatch.outcome(leave_s)}


class _Heard:
    """Who of a crowd has heard the value that is waited for, and when."""

    def __init__(self, crowd: int) -> None:
        self.open = True
        self._crowd = crowd
        self._value = b""
        self._at_s: list[float] = []
        self._changed = threading.Condition()

    def again(self, value: bytes) -> None:
        with self._changed:
            self._value = value
            self._at_s = []

    def one(self, value: bytes | None) -> None:
        with self._changed:
            if value == self._value:
                self._at_s.append(time.monotonic())
                if len(self._at_s) == self._crowd:
                    self._changed.notify_all()

    def by_all(self) -> Sequence[float]:
        """When each of them has heard it; returns once all have."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._at_s) == self._crowd, _TIMEOUT_S):
                raise AssertionError(f"only {len(self._at_s)} of {self._crowd} have heard it")
            return self._at_s


class _Views:
    """How many instances each follower knows."""

    def __init__(self, followers: int) -> None:
        self.open = True
        self._known = [0] * followers
        self._changed = threading.Condition()

    def follower(self, number: int) -> Callable[[list[str]], bool]:
        def tell(children: list[str]) -> bool:
            with self._changed:
                self._known[number] = len(children)
                self._changed.notify_all()
            return self.open

        return tell

    def until_all_show(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: all(one == count for one in self._known), _TIMEOUT_S):
                raise AssertionError(f"not all followers know {count}: {self._known}")


def main(host: str, port: str) -> None:
    client = KazooClient(hosts=f"{host}:{port}", timeout=TTL_S)
    client.start()
    theirs = WithKazoo(client)
    answer_turns(
        {
            "lock": theirs.lock,
            "handover": theirs.handover,
            "queue": theirs.queue,
            "claims": theirs.claims,
            "fan-out": theirs.fan_out,
            "registry": theirs.registry,
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
