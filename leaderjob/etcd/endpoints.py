"""Which endpoint the next call goes to: the one in use, until it fails."""

import time
from collections.abc import Callable, Sequence

from leaderjob.endpoints import Endpoint
from leaderjob.errors import SettingsError

SET_ASIDE_S = 5.0


class Endpoints:
    """Their addresses, in the order in which they are tried. One that failed is set aside for a while, so that
    the others' failures do not lead back to it; then it is as good as any other.

    The next one is taken up only when the one in use fails: a cluster's members are equals, and a
    connection that works is not given up for another.

    :param clock: seconds that never go back.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, clock: Callable[[], float] = time.monotonic) -> None:
        if not endpoints:
            raise SettingsError("no etcd endpoint is given: name at least one HOST:PORT")
        self.all = tuple(endpoint.address for endpoint in endpoints)
        self._clock = clock
        self._in_use = 0
        self._failed_at: dict[str, float] = {}

    @property
    def in_use(self) -> str:
        return self.all[self._in_use]

    def failed(self, endpoint: str) -> None:
        """Set ``endpoint`` aside. If it is in use, another one is from now on: the next in order that is not set
        aside; if all are, the one that failed first."""
        now = self._clock()
        self._failed_at[endpoint] = now
        if endpoint != self.in_use:
            return
        count = len(self.all)
        following = [(self._in_use + step) % count for step in range(1, count + 1)]
        usable = (index for index in following if not self._is_set_aside(self.all[index], now))
        longest_ago = min(following, key=lambda index: self._failed_at.get(self.all[index], 0.0))
        self._in_use = next(usable, longest_ago)

    def _is_set_aside(self, endpoint: str, now: float) -> bool:
        return endpoint in self._failed_at and now - self._failed_at[endpoint] < SET_ASIDE_S
