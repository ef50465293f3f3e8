"""Settings of time: the defaults fit each other at any TTL, and what does not fit is refused with numbers."""

from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError
from leaderjob.recipes import Timing
from leaderjob.settings import ElectionSettings, load_settings
from tests.support.settings import leave_alone, refused


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_alone(tmp_path, monkeypatch)


def election(**values: Any) -> ElectionSettings:
    return load_settings(None, {"election": values}).election


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"ttl": 4, "margin": 2}, "margin 2s must be above 0 and below half of the ttl of 4s"),
        ({"ttl": 10, "margin": 0}, "margin 0s must be above 0"),
        ({"ttl": 10, "margin": 2, "kill_grace": 3}, "kill_grace 3s must not exceed the margin"),
        ({"ttl": 9, "keepalive": "3.1s"}, "keepalive 3.1s must be above 0 and at most a third of the ttl"),
        ({"keepalive": 0}, "keepalive 0s must be above 0"),
        ({"ttl": 1}, "etcd takes whole seconds, at least 2"),
        ({"ttl": "2500ms"}, "ttl 2.5 s: etcd takes whole seconds"),
    ],
)
def test_timing_that_does_not_fit_is_refused(values: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(election=values)


@pytest.mark.parametrize(
    ("ttl_s", "margin_s", "keepalive_s"),
    [(1, 0.2, None), (2.5, 0.5, None), (4, 2, None), (4, 0, None), (4, -1, None), (6, 1, 2.1), (6, 1, 0)],
)
def test_a_session_refuses_timing_that_does_not_fit(
    ttl_s: float, margin_s: float, keepalive_s: float | None
) -> None:
    with pytest.raises(SettingsError, match=r"\bs\b"):
        Timing(ttl_s=ttl_s, margin_s=margin_s, keepalive_s=keepalive_s)


def test_a_margin_in_which_workers_may_outlive_the_lease_is_refused_with_the_least_that_fits() -> None:
    message = refused(election={"ttl": 20, "margin": "790ms"})
    assert "margin 0.79s is too short for a ttl of 20s" in message
    assert "at least 0.8s, which is 1 % of the ttl" in message
    assert "0.1s (the guard may be late) + 0.5s (to reap what was killed)" in message
    assert election(ttl=20, margin="800ms").margin_s == 0.8


def test_a_leader_whose_keepalives_are_answered_must_not_come_near_the_end_of_its_trust() -> None:
    message = refused(election={"ttl": 12, "margin": 4, "kill_grace": 4, "keepalive": 2})
    assert "ttl 12s - margin 4s - kill_grace 4s = 4s must be more than keepalive 2s + 2s" in message
    assert "Lower margin, kill_grace or keepalive, or raise the ttl" in message
    assert election(ttl=12, margin=4, kill_grace="3.9s", keepalive=2).kill_grace_s == 3.9


def test_a_call_to_etcd_has_a_shorter_deadline_when_the_ttl_is_short() -> None:
    assert [election(ttl=ttl_s).call_timeout_s for ttl_s in (2, 6, 8, 60)] == [0.5, 1.5, 2.0, 2.0]


def test_the_defaults_fit_each_other() -> None:
    defaults = ElectionSettings()
    assert Timing(defaults.ttl, defaults.margin_s, defaults.keepalive) == Timing()
    assert (defaults.keepalive_s, defaults.kill_grace_s) == (2.0, 1.0)


@pytest.mark.parametrize("ttl", [*range(2, 61), 120, 200, 3600])
def test_the_defaults_follow_any_ttl(ttl: int) -> None:
    found = election(ttl=ttl)
    timing = Timing(found.ttl, found.margin_s, found.keepalive)
    assert 0 < found.kill_grace_s <= timing.margin_s < timing.ttl_s / 2
    assert found.margin_s >= ttl / 100 + 0.6 - 1e-9
    assert ttl - found.margin_s - found.kill_grace_s > found.keepalive_s + min(2.0, ttl / 4)


def test_below_8s_the_margin_is_a_quarter_of_the_ttl_unless_that_is_too_short() -> None:
    margins_s = [election(ttl=ttl_s).margin_s for ttl_s in (2, 3, 5, 8, 60, 200)]
    assert margins_s == pytest.approx([0.62, 0.75, 1.25, 2.0, 2.0, 2.6])
