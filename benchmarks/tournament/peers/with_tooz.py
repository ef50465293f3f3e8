"""``tooz`` with its driver for etcd (``etcd3gw``: JSON over HTTP/1.1): locks and groups."""

import itertools
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests.adapters
from tooz import coordination  # type: ignore[import-not-found]

from tournament.peers.serving import answer_turns
from tournament.turns import FOLLOWERS, SETTLE_S, TTL_S, Outcomes, Stopwatch, Turn

_CONNECTIONS = 64
_AT_A_TIME = 8
_TIMEOUT_S = 20.0
_MEMBERSHIP_S = 60
"""Longer than a turn, so that nothing has to be kept alive by a thread of each member's own."""


class WithTooz:
    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._coordinator = self._start()

    def _start(self) -> Any:
        """A coordinator, which is one member of whatever it joins."""
        coordinator = coordination.get_coordinator(self._url, b"member-%d" % next(self._numbers))
        # By itself it keeps ten connections and throws away what more are made for calls in flight.
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS)
        coordinator.client.session.mount("http://", adapter)
        coordinator.client.session.trust_env = False
        coordinator.start()
        return coordinator

    def lock(self, turn: Turn) -> Outcomes:
        lock = self._coordinator.get_lock(turn.name.encode())
        latencies_s = []
        stopwatch = Stopwatch()
        for _ in range(turn.count):
            began_s = time.monotonic()
            with lock:
                pass
            latencies_s.append(time.monotonic() - began_s)
        return {"each": stopwatch.outcome(latencies_s)}

    def handover(self, turn: Turn) -> Outcomes:
        """Who waits tries again every second: there is no line to stand in."""
        name = turn.name.encode()
        first = self._coordinator.get_lock(name)
        first.acquire()

        def take() -> None:
            with self._coordinator.get_lock(name):
                pass

        with ThreadPoolExecutor(turn.crowd) as pool:
            waiters = [pool.submit(take) for _ in range(turn.crowd)]
            time.sleep(SETTLE_S)
            stopwatch = Stopwatch()
            first.release()
            for waiter in waiters:
                waiter.result()
            return {"all": stopwatch.outcome()}

    def registry(self, turn: Turn) -> Outcomes:
        """A group. Who follows it asks for its members, all of them, over and over (``run_watchers``)."""
        group = turn.name.encode()
        self._coordinator.create_group(group).get()
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            members = list(pool.map(lambda _: self._start(), range(turn.crowd)))
            followers = [_Follower(self._start(), group) for _ in range(FOLLOWERS)]

            def join(member: Any) -> None:
                member.join_group(group).get()

            def until_all_show(count: int) -> None:
                list(pool.map(lambda follower: follower.until_it_shows(count), followers))

            stopwatch = Stopwatch()
            list(pool.map(join, members))
            until_all_show(turn.crowd)
            outcomes = {"all": stopwatch.outcome()}
            join_s, leave_s = [], []
            for member in members[: turn.count]:
                began_s = time.monotonic()
                member.leave_group(group).get()
                until_all_show(turn.crowd - 1)
                leave_s.append(time.monotonic() - began_s)
                began_s = time.monotonic()
                member.join_group(group).get()
                until_all_show(turn.crowd)
                join_s.append(time.monotonic() - began_s)
            # It leaves its leases to run out, which would be work for etcd in the turns of others.
            list(pool.map(lambda member: member._membership_lease.revoke(), members))
        return outcomes | {"join": stopwatch.outcome(join_s), "leave": stopwatch.outcome(leave_s)}


class _Follower:
    """Who follows a group, by what its coordinator calls back."""

    def __init__(self, coordinator: Any, group: bytes) -> None:
        self._coordinator = coordinator
        self._members: set[bytes] = set()
        coordinator.watch_join_group(group, self._joined)
        coordinator.watch_leave_group(group, self._left)

    def _joined(self, event: Any) -> None:
        self._members.add(event.member_id)

    def _left(self, event: Any) -> None:
        self._members.discard(event.member_id)

    def until_it_shows(self, count: int) -> None:
        give_up_at_s = time.monotonic() + _TIMEOUT_S
        while len(self._members) != count:
            if time.monotonic() > give_up_at_s:
                raise AssertionError(f"a follower knows {len(self._members)} members, not {count}")
            self._coordinator.run_watchers()


def main(host: str, port: str) -> None:
    # "sync": what is asked for is done by the thread that asks, and not by another one.
    theirs = WithTooz(
        f"etcd3+http://{host}:{port}?timeout={TTL_S}&membership_timeout={_MEMBERSHIP_S}&executor=sync"
    )
    answer_turns({"lock": theirs.lock, "handover": theirs.handover, "registry": theirs.registry})


if __name__ == "__main__":
    main(*sys.argv[1:])
