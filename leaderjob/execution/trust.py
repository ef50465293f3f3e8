"""A guard learns how long what runs under it may be trusted, again and again."""

import asyncio
import math
from collections.abc import Callable

from leaderjob.execution.guarded import Guarded

TRUST_POLL_S = 0.25


async def pass_on_trust(process: Guarded, trust: float | None, trusted_until: Callable[[], float]) -> None:
    """Move the deadline of ``process`` whenever ``trusted_until`` does. Runs until it is cancelled.

    :param trust: the deadline that it has now. :param trusted_until: an instant of ``CLOCK_BOOTTIME``; ``inf``: never.
    """
    while True:
        await asyncio.sleep(TRUST_POLL_S)
        new = finite(trusted_until())
        if new != trust:
            trust = new
            process.set_deadline(new)


def finite(deadline: float) -> float | None:
    """``deadline``, or None if there is none."""
    return None if math.isinf(deadline) and deadline > 0 else deadline
