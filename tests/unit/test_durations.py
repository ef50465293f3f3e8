"""Durations as people write them."""

import pytest

from leaderjob.durations import format_duration, parse_duration_s
from leaderjob.errors import InvalidDuration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        (10, 10.0),
        (2.5, 2.5),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        (" 5M ", 300.0),
        ("1d", 86400.0),
    ],
)
def test_a_duration_is_read(text: str | float, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "10x", "-1", -1, "1h 30m", "s", True, "1e3s"])
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(InvalidDuration):
        parse_duration_s(text)


def test_durations_are_shown_at_a_sensible_scale() -> None:
    shown = [format_duration(seconds) for seconds in (0.85, 4.2, 60, 200, 7500, 200_000)]

    assert shown == ["850ms", "4.2s", "1m00s", "3m20s", "2h05m", "2d7h"]
