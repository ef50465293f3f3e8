"""How far the results are that this replica serves, by its own disk."""

from collections.abc import Iterable

from leaderjob.results.activation import Activation
from leaderjob.results.errors import ArtifactDamaged, RecordDamaged


def served_sequences(activation: Activation, jobs: Iterable[str]) -> dict[str, tuple[str, int]]:
    """By job, the history and the sequence of the pointer in force here. What is damaged is left out:
    its follower reports it."""
    found = {}
    for job in jobs:
        try:
            active = activation.active(job)
        except (ArtifactDamaged, RecordDamaged, OSError):
            continue
        if active is not None:
            found[job] = (active.history, active.sequence)
    return found
