"""Places at what is open to others: so many in all, and so many for one of them, so that nobody takes them all."""

import threading
from collections import Counter


class Places:
    """For any thread.

    :param total: how many may be taken at a time.
    :param per_peer: how many of them by one peer, which is an address: who has many addresses is many peers.
    """

    def __init__(self, total: int, *, per_peer: int) -> None:
        self._total = total
        self._per_peer = per_peer
        self._taken = Counter[str]()
        self._lock = threading.Lock()

    def take(self, peer: str) -> "Place | None":
        """A place until it is left; None: all are taken, or all that this peer may have."""
        with self._lock:
            if self._taken.total() >= self._total or self._taken[peer] >= self._per_peer:
                return None
            self._taken[peer] += 1
        return Place(self, peer)

    def give_back(self, peer: str) -> None:
        """For :meth:`Place.leave` alone."""
        with self._lock:
            self._taken[peer] -= 1
            if not self._taken[peer]:
                del self._taken[peer]  # or who comes from ever new addresses would fill the memory


class Place:
    """One that was taken."""

    def __init__(self, places: Places, peer: str) -> None:
        self._places: Places | None = places
        self._peer = peer

    def leave(self) -> None:
        """Others may have it. Calling it again does nothing: it would give away somebody else's."""
        places, self._places = self._places, None
        if places is not None:
            places.give_back(self._peer)
