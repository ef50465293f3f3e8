"""Faults inside a replica, at moments that no signal from outside would hit. leaderjob outlives them."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from leaderjob.etcd import Etcd, EtcdUnavailable, Op, Put
from leaderjob.recipes.leadership import Leadership
from tests.faults.history.defects import patch

STALL_S = 2.1
"""Less than what the keepalive before gives, or the term would end by itself; at a TTL of 4 s and a margin of 0.65 s."""


def stopped_at_publication() -> None:
    """The process is stopped when the transaction that publishes is as good as on its way, once: then it arrives
    whenever the process goes on."""
    original = Etcd.txn
    hit = False

    async def txn(self: Etcd, compares: Any, success: Sequence[Op], *more: Any, **options: Any) -> Any:
        nonlocal hit
        sending = original(self, compares, success, *more, **options)
        if hit or not any(isinstance(op, Put) and op.key.endswith("/current") for op in success):
            return await sending
        hit = True
        os.kill(os.getpid(), signal.SIGSTOP)
        return await asyncio.shield(asyncio.ensure_future(sending))

    patch(Etcd, "txn", txn)


def killed_at_publication() -> None:
    """The process dies when etcd has committed the transaction that publishes, and nobody has heard of it."""
    original = Etcd.txn

    async def txn(self: Etcd, compares: Any, success: Sequence[Op], *more: Any, **options: Any) -> Any:
        answer = await original(self, compares, success, *more, **options)
        if any(isinstance(op, Put) and op.key.endswith("/current") for op in success):
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    patch(Etcd, "txn", txn)


def stalled_with_an_answer() -> None:
    """The leader's loop stalls with the answer to a keepalive in hand, once; after that none is answered on this
    lease."""
    original_confirm, original_keep_alive = Leadership.confirm, Etcd.keep_alive
    cut_off: set[int] = set()
    confirmed = 0

    async def confirm(self: Leadership, sent_at: float) -> None:
        nonlocal confirmed
        confirmed += 1
        if confirmed == 3:
            cut_off.add(self.term.lease_id)
            time.sleep(STALL_S)
        await original_confirm(self, sent_at)

    async def keep_alive(self: Etcd, lease_id: int, **options: Any) -> Any:
        if lease_id in cut_off:
            raise EtcdUnavailable(self.connection.endpoints, "the line is cut")
        return await original_keep_alive(self, lease_id, **options)

    patch(Leadership, "confirm", confirm)
    patch(Etcd, "keep_alive", keep_alive)


FAULTS: Mapping[str, Callable[[], None]] = {
    "stopped-at-publication": stopped_at_publication,
    "killed-at-publication": killed_at_publication,
    "stalled-with-an-answer": stalled_with_an_answer,
}
