"""How long a run waits before its next attempt: a pure rule."""

_FIRST_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0
_LONGEST_DELAY_S = 366 * 86400.0
_AT_ONCE = 10
_SHORTEST_PAUSE_S = 1.0
_BYTES_PER_S = 64 * 1024
_WRITES_PER_ATTEMPT = 2


def retry_pause_s(*, attempts: int, failures: int, asked_s: float | None, record_bytes: int) -> float:
    """The pause after the ``attempts``-th attempt, in seconds.

    A job may ask for any pause up to a year, and for none. After ten attempts it is a second at least, and longer
    where the record is large: each attempt writes the run's record twice, and what one run writes must not fill etcd.

    :param failures: how many attempts have failed. :param asked_s: what the job asked for.
    :param record_bytes: the size of the run's record.
    """
    pause_s = backoff_s(failures) if asked_s is None else min(max(0.0, asked_s), _LONGEST_DELAY_S)
    if attempts < _AT_ONCE:
        return pause_s
    return max(pause_s, _SHORTEST_PAUSE_S, _WRITES_PER_ATTEMPT * record_bytes / _BYTES_PER_S)


def backoff_s(failures: int) -> float:
    """Without a wish of the job's own: 1, 2, 4, … at most 60 s."""
    return min(_FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16), _LONGEST_BACKOFF_S)
