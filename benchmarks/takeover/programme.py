"""What is measured, in which order. A trial that went otherwise is told with its row, and the cluster begins anew."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from contest.contestants import NotInstalled

from leaderjob.embedded.cluster import ReplicaEnded
from takeover.cluster import Cluster, WentOtherwise
from takeover.etcd_leader import Outage, outage
from takeover.faults import CUT_OFF, HOST_GONE, KILLED, KILLED_IN_MID_RUN, PAUSED, STOPPED, Fault, trial
from takeover.limit import measure_steps
from takeover.machines import network, why_not
from takeover.members import Members
from takeover.results import Findings, Row, Target
from takeover.rivals import Race, Rival, race, rivals
from takeover.servers import ServerNotStarted, Servers

_AT_ONCE = {"killed": KILLED, "stopped": STOPPED, "mid-run": KILLED_IN_MID_RUN}
PARTS = (*_AT_ONCE, "limit", "silence", "etcd", "lease", "rivals")
TTL_S, SILENT_TTL_S, ETCD_TTL_S = 10, 3, 5
"""The default, and that of the rivals; for what can only be waited for; the shortest that outlasts etcd's leader."""

OURS = "leaderjob"
ACTING, FIRST_RUN = "acting leader", "first run"
_BY_TTL_MS = 600
_IN_A_ROW = 3
_LEASE_ALONE = ("[election]", "takeover_fast = false")
_TARGETS = {
    KILLED.name: Target(p50_ms=10, p99_ms=60),
    KILLED_IN_MID_RUN.name: Target(p50_ms=10, p99_ms=60),
    STOPPED.name: Target(p50_ms=10),
}
_NEXT_WORKER = Target(p50_ms=150)

FoundT = TypeVar("FoundT")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Programme:
    """:param trials: of what takes milliseconds; of the rest there are fewer.
    :param parts: some of ``PARTS``. :param venvs: where those of the rivals are.
    :param tell: is told what goes on.
    """

    directory: Path
    trials: int
    venvs: Path
    parts: Sequence[str] = PARTS
    servers: Servers = field(default_factory=Servers)
    etcd: Path | None = None
    tell: Tell = lambda _: None

    async def run(self, found: Findings) -> None:
        """Add to ``found`` as it is found, so that what was measured is not lost with what fails later.

        :raises LeaderjobError: a server or a replica cannot be started.
        """
        if {*_AT_ONCE, "limit"} & set(self.parts):
            await self._at_once(found)
        if "silence" in self.parts:
            await self._silence(found)
        if "etcd" in self.parts:
            await self._etcd_leader(found)
        if "lease" in self.parts:
            await self._lease_alone(found)
        if "rivals" in self.parts:
            await self._rivals(found)

    @property
    def _slow_trials(self) -> int:
        return max(2, self.trials * 3 // 20)

    async def _at_once(self, found: Findings) -> None:
        """What the next one learns of at once."""
        directory = self.directory / "at-once"
        async with (
            Members(directory, binary=self.etcd) as members,
            Cluster(members.endpoints, self.directory / "fast", TTL_S) as cluster,
        ):
            for part, fault in _AT_ONCE.items():
                if part in self.parts:
                    await self._faults(found, cluster, fault, self.trials, _TARGETS[fault.name])
            if "limit" in self.parts:
                self.tell("the limit")
                found.steps += await measure_steps(cluster, max(2, self.trials // 10))

    async def _silence(self, found: Findings) -> None:
        target = Target(max_ms=SILENT_TTL_S * 1000 + _BY_TTL_MS)
        if (reason := why_not()) is not None:
            found.absent[f"{CUT_OFF.name}, {HOST_GONE.name}"] = reason
            async with (
                Members(self.directory / "silence", binary=self.etcd) as members,
                Cluster(members.endpoints, self.directory / "silent", SILENT_TTL_S) as cluster,
            ):
                await self._faults(found, cluster, PAUSED, self._slow_trials, target)
            return
        with network(("r1", "r2", "r3")) as net:
            async with (
                Members(self.directory / "silence", host=net.address, binary=self.etcd) as members,
                Cluster(
                    members.endpoints, self.directory / "silent", SILENT_TTL_S, machines=net.machines
                ) as cluster,
            ):
                for fault in (PAUSED, CUT_OFF, HOST_GONE):
                    await self._faults(found, cluster, fault, self._slow_trials, target)

    async def _etcd_leader(self, found: Findings) -> None:
        fault = "etcd's leader killed"
        written = Row(OURS, fault, "etcd takes writes", ETCD_TTL_S)
        began = Row(OURS, fault, FIRST_RUN, ETCD_TTL_S)
        async with (
            Members(self.directory / "etcd", count=3, binary=self.etcd) as members,
            Cluster(members.endpoints, self.directory / "three", ETCD_TTL_S) as cluster,
        ):
            outages = await self._repeat(
                cluster, fault, self._slow_trials, lambda: outage(cluster, members), written.otherwise
            )
        written.values_ms = [one.written_s * 1000 for one in outages]
        began.values_ms = [one.began_s * 1000 for one in outages]
        written.note = _office(outages)
        written.otherwise += [
            f"trial {number} of those that count: leadership was lost"
            for number, one in enumerate(outages, start=1)
            if not one.kept_office
        ]
        found.rows += [written, began]

    async def _lease_alone(self, found: Findings) -> None:
        async with (
            Members(self.directory / "lease", binary=self.etcd) as members,
            Cluster(
                members.endpoints, self.directory / "alone", TTL_S, settings=_LEASE_ALONE, watched=False
            ) as cluster,
        ):
            row = Row(OURS, "killed, fast takeover off", ACTING, TTL_S)
            trials = await self._repeat(
                cluster, row.fault, self._rival_trials, lambda: trial(cluster, KILLED), row.otherwise
            )
            row.values_ms = [one.acting_s * 1000 for one in trials]
            found.rows.append(row)

    @property
    def _rival_trials(self) -> int:
        return max(1, self.trials // 20)

    async def _rivals(self, found: Findings) -> None:
        """All at the same time: they wait for their leases, and do nothing meanwhile."""
        self.tell("the others, all at once")
        taking_part = rivals()
        rows = await asyncio.gather(*(self._rival(rival) for rival in taking_part))
        for rival, row in zip(taking_part, rows, strict=True):
            if isinstance(row, Row):
                found.rows.append(row)
            else:
                found.absent[rival.name] = row

    async def _rival(self, rival: Rival) -> Row | str:
        """Its row, or why it takes no part."""
        row = Row(rival.name, KILLED.name, "leads, by its own word", rival.ttl_s)
        trials = self._rival_trials if rival.ttl_s == TTL_S else max(1, self.trials // 40)
        directory = self.directory / rival.name.replace(",", "").replace(" ", "-")
        try:
            async with race(rival, directory, servers=self.servers, venvs=self.venvs) as running:
                await self._race(running, row, trials)
        except (NotInstalled, ServerNotStarted) as reason:
            return str(reason)
        return row

    async def _race(self, running: Race, row: Row, trials: int) -> None:
        for number in range(1, trials + 1):
            try:
                row.values_ms.append(await running.trial() * 1000)
            except WentOtherwise as reason:
                row.otherwise.append(f"trial {number}: {reason}")
                await running.end()
                if number >= _IN_A_ROW and not row.values_ms:
                    return

    async def _faults(
        self, found: Findings, cluster: Cluster, fault: Fault, trials: int, target: Target
    ) -> None:
        acting = Row(OURS, fault.name, ACTING, cluster.ttl_s, target)
        next_worker = Target() if not fault.in_mid_run else _NEXT_WORKER
        began = Row(
            OURS, fault.name, "next worker" if fault.in_mid_run else FIRST_RUN, cluster.ttl_s, next_worker
        )
        done = await self._repeat(
            cluster, fault.name, trials, lambda: trial(cluster, fault), acting.otherwise
        )
        acting.values_ms = [one.acting_s * 1000 for one in done]
        began.values_ms = [one.began_s * 1000 for one in done]
        found.rows += [acting, began]

    async def _repeat(
        self,
        cluster: Cluster,
        name: str,
        trials: int,
        once: Callable[[], Awaitable[FoundT]],
        otherwise: list[str],
    ) -> list[FoundT]:
        """``trials`` of them; what went otherwise goes there, and after three in a row it is no use to go on."""
        done: list[FoundT] = []
        in_a_row = 0
        for number in range(1, trials + 1):
            self.tell(f"{name}: trial {number} of {trials}")
            try:
                done.append(await once())
                in_a_row = 0
            except (WentOtherwise, ReplicaEnded) as reason:
                otherwise.append(f"trial {number}: {reason}")
                cluster.kill_all()
                in_a_row += 1
                if in_a_row == _IN_A_ROW:
                    otherwise.append(f"given up after {_IN_A_ROW} in a row")
                    break
        return done


def _office(outages: Sequence[Outage]) -> str:
    """What became of the term."""
    kept = sum(found.kept_office for found in outages)
    told = f"leadership was kept in {kept} of {len(outages)} trials"
    warned_s = [found.least_trust_s for found in outages if found.least_trust_s is not None]
    return (
        f"{told}; trust was at risk in {len(warned_s)}, with {min(warned_s):.1f} s left" if warned_s else told
    )
