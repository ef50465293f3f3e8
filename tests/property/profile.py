"""How many examples a model is held against."""

import os

from hypothesis import HealthCheck, Phase, settings

_DEEP_FACTOR = 25


def is_deep() -> bool:
    return os.environ.get("PROPERTY_PROFILE") == "deep"


def profile(examples: int) -> settings:
    """``examples`` fixed ones by default; in the profile ``deep`` many times as many, new ones each time.

    Faults are a matter of timing, so a sequence that failed may pass when it is repeated. By default none
    is: the failure that was seen is the one that is reported.
    """
    slow = [HealthCheck.too_slow]
    if is_deep():
        return settings(
            max_examples=examples * _DEEP_FACTOR,
            deadline=None,
            suppress_health_check=slow,
            print_blob=True,
        )
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=slow,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )
