"""A sequence, drawn from a seed: values only, so that the same seed draws the same one everywhere."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.sequences.faults import Fault

_TWO_AT_ONCE = 0.25
_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, or two that overlap; then the cluster is healed and has some time.

    :param second_after_s: after the first, the second strikes. :param lasts_s: from the last strike to the first
        healing. :param rest_s: from the moment that all is in order again. :param seed: for what the faults choose.
    """

    faults: tuple[Fault, ...]
    second_after_s: float
    lasts_s: float
    rest_s: float
    seed: int

    @property
    def name(self) -> str:
        return " + ".join(fault.name for fault in self.faults)


def draw(seed: int, faults: int, among: Sequence[Fault]) -> list[Step]:
    """So many faults, in as many steps or fewer."""
    dice = random.Random(seed)
    steps: list[Step] = []
    left = faults
    while left:
        first = _one(dice, among)
        beside = [fault for fault in among if _go_together(first, fault)]
        both = left > 1 and bool(beside) and dice.random() < _TWO_AT_ONCE
        struck = (first, _one(dice, beside)) if both else (first,)
        steps.append(
            Step(
                faults=struck,
                second_after_s=round(dice.uniform(0.0, 0.6), 3),
                lasts_s=round(dice.uniform(*_lasting(struck)), 3),
                rest_s=round(dice.uniform(0.2, 2.0), 3),
                seed=dice.getrandbits(32),
            )
        )
        left -= len(struck)
    return steps


def _one(dice: random.Random, among: Sequence[Fault]) -> Fault:
    return dice.choices(among, [fault.weight for fault in among])[0]


def _go_together(one: Fault, other: Fault) -> bool:
    """Both may last as long as each other, one of them strikes etcd, one a disk, and some replica is left to lead."""
    if one is other or (one.etcd and other.etcd) or (one.disk and other.disk):
        return False
    if one.replicas + other.replicas >= _REPLICAS:
        return False
    least, most = _lasting((one, other))
    return least <= most


def _lasting(faults: Sequence[Fault]) -> tuple[float, float]:
    return max(fault.lasts_s[0] for fault in faults), min(fault.lasts_s[1] for fault in faults)
