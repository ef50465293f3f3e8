"""The wall clock of a leader's machine is set: what it may rely on is counted in seconds that pass."""

import asyncio
import json
import sys
from pathlib import Path

from leaderjob.clock import boottime, utcnow
from tests.faults.harness import members, standing
from tests.faults.harness.wall_clock import WallClock, needs_faketime
from tests.support.candidates import SHORT
from tests.support.commands import Lines

HOUR_S = 3600

pytestmark = needs_faketime


async def test_a_leader_whose_clock_is_set_an_hour_ahead_and_back_keeps_office_and_trusts_itself_no_longer(
    tmp_path: Path,
) -> None:
    clock = WallClock(tmp_path / "clock")
    async with members(tmp_path / "etcd", 1) as etcd, standing(etcd.endpoints, timing=SHORT) as second:
        command = (sys.executable, "-m", "tests.faults.harness.office_holder", *etcd.endpoints)
        with Lines(*clock.within, *command) as holder:
            await trusting(holder, ahead_s=0)
            async with second.queued() as winning:
                for ahead_s in (HOUR_S, -HOUR_S):
                    clock.set(ahead_s)
                    await trusting(holder, ahead_s=ahead_s)
                assert not winning.done()
            for line in map(json.loads, holder.read):
                assert line["trusted_until"] <= line["boottime"] + SHORT.ttl_s - SHORT.margin_s


async def trusting(holder: Lines, *, ahead_s: int) -> None:
    """Return when it trusts itself beyond what it knew before, by a clock that is set so."""
    set_at = boottime()

    def wanted(line: str) -> bool:
        said: dict[str, float] = json.loads(line)
        is_set = abs(said["wall"] - utcnow().timestamp() - ahead_s) < HOUR_S / 2
        return is_set and said["trusted_until"] > set_at + SHORT.ttl_s

    await asyncio.to_thread(holder.until, wanted)
