"""One call, tried here and there: for how long each time, and what it comes to when none is answered."""

import asyncio
import time
from collections.abc import Callable, Sequence

from leaderjob.etcd.errors import AmbiguousWrite, EtcdError, EtcdUnavailable

_ROUNDS = 2
_PAUSE_BETWEEN_ROUNDS_S = 0.05


class Tries:
    """At most two for each endpoint, and as long as there is time.

    :param try_timeout_s: the most that one may take.
    :param within_s: the most that all may take; each has an equal share of what is left, so that an endpoint
        which says nothing leaves time for the others. None: as long as it takes.
    :param writes: what is tried writes, so a try that got no answer may have been done.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        try_timeout_s: float,
        within_s: float | None,
        writes: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._try_timeout_s = try_timeout_s
        self._within_s = within_s
        self._writes = writes
        self._clock = clock
        self._over_at = clock() + within_s if within_s is not None else None
        self._count = 0
        self._failures: dict[str, str] = {}
        self._unanswered: tuple[str, str] | None = None
        self._token_replaced = False

    async def another(self) -> float | None:
        """For how many seconds there is another try; None: there is none."""
        if self._count == _ROUNDS * len(self._endpoints):
            return None
        if self._count and self._count % len(self._endpoints) == 0:
            left_s = self._left_s()
            await asyncio.sleep(
                _PAUSE_BETWEEN_ROUNDS_S if left_s is None else max(0.0, min(_PAUSE_BETWEEN_ROUNDS_S, left_s))
            )
        left_s = self._left_s()
        if left_s is None:
            return self._try_timeout_s
        if left_s <= 0:
            return None
        left_in_round = len(self._endpoints) - self._count % len(self._endpoints)
        return min(self._try_timeout_s, left_s / left_in_round)

    def failed(self, endpoint: str, detail: str, *, may_be_done: bool) -> None:
        """Note that a try came to nothing. :param may_be_done: it was sent, and nobody knows what became of it."""
        self._count += 1
        self._token_replaced = False
        self._failures[endpoint] = detail
        if may_be_done:
            self._unanswered = (endpoint, detail)

    def token_refused(self, endpoint: str, detail: str) -> None:
        """Note that a try was refused for its token, which is replaced now. The first time that is no try at all."""
        if self._token_replaced:
            self._count += 1
        self._token_replaced = True
        self._failures[endpoint] = detail

    def outcome(self, refusal: EtcdError | None = None) -> EtcdError:
        """What to raise now that there is no other try. :param refusal: what the last one was answered.

        A refusal says nothing of a write that was sent before, and got no answer.
        """
        if self._writes and self._unanswered is not None:
            endpoint, detail = self._unanswered
            return AmbiguousWrite(
                endpoint, f"{detail}; sent again, it was refused: {refusal}" if refusal else detail
            )
        if refusal is not None:
            return refusal
        if not self._failures:
            return EtcdUnavailable(self._endpoints, f"there was no time to ask ({self._within_s:g} s)")
        detail = "; ".join(f"{endpoint}: {failure}" for endpoint, failure in self._failures.items())
        alone = next(iter(self._failures.values()))
        return EtcdUnavailable(self._endpoints, detail if len(self._failures) > 1 else alone)

    def _left_s(self) -> float | None:
        return None if self._over_at is None else self._over_at - self._clock()
