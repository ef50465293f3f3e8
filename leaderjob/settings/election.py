"""The group ``election``: times, and how they must fit each other.

::

    a keepalive is sent                     the guard TERMs        trust ends, KILL      the lease runs out
    ├── keepalive ──┼── call_timeout ──┤ …  ├──── kill_grace ────┼──── margin ─────────┤
    0                                                           ttl - margin          ttl
"""

from typing import Any, Self

from pydantic import Field, model_validator

from leaderjob.settings.group import Group
from leaderjob.settings.values import Seconds

_MAX_CALL_TIMEOUT_S = 2.0
_CLOCK_DRIFT = 0.01
_GUARD_LATENESS_S = 0.1
_REAP_BOUND_S = 0.5


class ElectionSettings(Group):
    """How leadership keeps time."""

    ttl: Seconds = 10.0
    """How long a lease outlives its last keepalive, in whole seconds. Below 5s leadership is not promised to
    outlast the death of an etcd leader."""
    margin: Seconds | None = Field(default=None, examples=["2s"])
    """How much earlier than the lease a leader stops trusting itself: at least 1 % of the TTL + 600ms; by default
    2s, a quarter of a TTL below 8s, or that least."""
    keepalive: Seconds | None = Field(default=None, examples=["2s"])
    """The pause between keepalives; a fifth of the TTL by default."""
    kill_grace: Seconds | None = Field(default=None, examples=["1s"])
    """How long a worker has between TERM and KILL; half of the margin by default."""
    drain: Seconds = 0.0
    """For how long a leader that is to give up office (stopped, resigning, transferring) lets runs under way end,
    and admits no others; what runs then is stopped, and the next leader starts it again."""
    takeover_fast: bool = True
    """Take over at once when the leader's process is seen to be gone, not after the TTL."""

    @property
    def margin_s(self) -> float:
        """The margin in force."""
        if self.margin is not None:
            return self.margin
        return max(min(2.0, self.ttl / 4), self._least_margin_s)

    @property
    def keepalive_s(self) -> float:
        """The pause between keepalives in force."""
        return self.keepalive if self.keepalive is not None else self.ttl / 5

    @property
    def kill_grace_s(self) -> float:
        """The kill grace in force."""
        return self.kill_grace if self.kill_grace is not None else self.margin_s / 2

    @property
    def call_timeout_s(self) -> float:
        """The deadline of one try of a call to etcd: several fit into a TTL."""
        return min(_MAX_CALL_TIMEOUT_S, self.ttl / 4)

    def in_force(self) -> dict[str, Any]:
        return super().in_force() | {
            "margin": self.margin_s,
            "keepalive": self.keepalive_s,
            "kill_grace": self.kill_grace_s,
        }

    @property
    def _least_margin_s(self) -> float:
        return round(self.ttl * _CLOCK_DRIFT + _GUARD_LATENESS_S + _REAP_BOUND_S, 6)

    @model_validator(mode="after")
    def _timing_fits(self) -> Self:
        ttl_s, margin_s, keepalive_s = self.ttl, self.margin_s, self.keepalive_s
        if ttl_s != int(ttl_s) or ttl_s < 2:
            raise ValueError(f"ttl {ttl_s:g} s: etcd takes whole seconds, at least 2")
        if not 0 < margin_s < ttl_s / 2:
            raise ValueError(f"margin {margin_s:g}s must be above 0 and below half of the ttl of {ttl_s:g}s")
        if margin_s < self._least_margin_s:
            raise ValueError(
                f"margin {margin_s:g}s is too short for a ttl of {ttl_s:g}s: workers might outlive the lease. It "
                f"must be at least {self._least_margin_s:g}s, which is 1 % of the ttl (clocks run differently) + "
                f"{_GUARD_LATENESS_S:g}s (the guard may be late) + {_REAP_BOUND_S:g}s (to reap what was killed)"
            )
        if self.kill_grace_s > margin_s:
            raise ValueError(f"kill_grace {self.kill_grace_s:g}s must not exceed the margin of {margin_s:g}s")
        if not 0 < keepalive_s <= ttl_s / 3:
            raise ValueError(
                f"keepalive {keepalive_s:g}s must be above 0 and at most a third of the ttl of {ttl_s:g}s"
            )
        quiet_s = ttl_s - margin_s - self.kill_grace_s
        if quiet_s <= keepalive_s + self.call_timeout_s:
            raise ValueError(
                f"ttl {ttl_s:g}s - margin {margin_s:g}s - kill_grace {self.kill_grace_s:g}s = {quiet_s:g}s must be "
                f"more than keepalive {keepalive_s:g}s + {self.call_timeout_s:g}s (the deadline of a call to etcd): "
                "otherwise workers may be told to stop although each keepalive is answered. Lower margin, "
                "kill_grace or keepalive, or raise the ttl"
            )
        return self
