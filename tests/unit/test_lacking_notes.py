"""What a leader without some jobs notes and what a replica says of them stays small, however many there are."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leaderjob.clock import utcnow
from leaderjob.cluster import lacking as counting
from leaderjob.cluster.lacking import keep_lacks_counted
from leaderjob.cluster.membership import Membership
from leaderjob.engine.lacking import fit_note
from leaderjob.model.job import JobSpec
from leaderjob.model.lacking import Lacking
from leaderjob.model.member import Lacks
from leaderjob.records.feed import Feed
from tests.support.ranks import KEYS, Line


@pytest.mark.parametrize("count", [10, 10_000])
def test_a_note_has_as_many_jobs_as_etcd_takes_and_what_it_knows_of_them(count: int) -> None:
    now = utcnow()
    names = tuple(f"{number:0120}" for number in range(count))
    instants = tuple(now + timedelta(seconds=number) for number in range(6))
    note = Lacking(
        token=7, replica="r1", since=now, seen=now, jobs=names, elsewhere=dict.fromkeys(names, instants)
    )
    fitting = fit_note(note)
    assert len(fitting.to_bytes()) < 1024 * 1024
    assert fitting.jobs == names[: len(fitting.jobs)]
    assert set(fitting.elsewhere) == set(fitting.jobs) == fitting.named
    assert len(fitting.jobs) >= min(count, 1000)


async def test_many_definitions_in_a_row_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line({"r1": None}, defined=[])
    feed = Feed(cast(Any, None), cast(Any, None))
    feed.view = line.view
    counts: list[Lacks] = []
    membership = cast(Membership, SimpleNamespace(set=lambda *, lacks: counts.append(lacks)))
    paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause(_: float) -> None:
        paused.set()
        await go_on.wait()

    monkeypatch.setattr(counting, "asyncio", SimpleNamespace(sleep=pause))
    counted = asyncio.ensure_future(keep_lacks_counted(feed, membership, {"j1"}))
    try:
        await paused.wait()
        for number in range(20):
            line.put(KEYS.spec(f"j{number}"), JobSpec(name=f"j{number}", reference="m:f"))
            feed.wake()
            await asyncio.sleep(0)
        assert [lacks.count for lacks in counts] == [0]
        paused.clear()
        go_on.set()
        await paused.wait()
        assert [lacks.count for lacks in counts] == [0, 19]
    finally:
        counted.cancel()
        await asyncio.gather(counted, return_exceptions=True)
