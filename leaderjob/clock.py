"""The two clocks: one for durations and deadlines, one for instants.

Trust deadlines use ``CLOCK_BOOTTIME``, which goes on counting while the machine is suspended, because
a lease goes on running out on the server meanwhile. It is the same for all processes of a machine, so
a deadline can be handed from a replica to a guard as a number.
"""

import time
from datetime import UTC, datetime


def boottime() -> float:
    """Seconds since the machine booted, suspend included. Never set, never goes back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def utcnow() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)
