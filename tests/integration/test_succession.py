"""Who has won an election sees what earlier terms wrote before it takes office, and waits no longer than it must."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine import succession
from leaderjob.engine.stepdown import SteppedDown
from leaderjob.engine.succession import see_all_before
from leaderjob.etcd import Etcd
from leaderjob.recipes import TermLost
from leaderjob.records.feed import Feed
from leaderjob.records.keys import Keys
from leaderjob.telemetry.events import Events
from tests.support.cuttable import Cuttable
from tests.support.hearing import hearing
from tests.support.office import Seat, seated


class Silent(Feed):
    """Shows nothing before it is asked to read again."""

    def __init__(self, etcd: Etcd, keys: Keys, proxy: Cuttable) -> None:
        super().__init__(etcd, keys)
        self._proxy = proxy

    async def read_again(self) -> None:
        self._proxy.heal()
        await super().read_again()


@asynccontextmanager
async def elected(etcd: EmbeddedEtcd, namespace: str, directory: Path) -> AsyncIterator[tuple[Seat, Feed]]:
    async with (
        seated(etcd.endpoint, namespace, directory) as seat,
        Cuttable(etcd.endpoint) as proxy,
        Etcd([proxy.endpoint]) as client,
    ):
        proxy.cut()
        feed = Silent(client, seat.keys, proxy)
        following = asyncio.create_task(feed.run())
        try:
            yield seat, feed
        finally:
            following.cancel()
            await asyncio.wait([following])


@pytest.mark.timeout_s(30)
async def test_where_the_feed_is_silent_it_is_read_again(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_SILENT_S", 0.1)

    async with elected(etcd, namespace, tmp_path) as (seat, feed):
        await see_all_before(feed, seat.office.leadership, seat.office.stepdown)
        assert feed.view.revision >= seat.office.leadership.won_revision


@pytest.mark.timeout_s(15)
async def test_who_is_to_step_down_does_so_although_the_feed_is_silent(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_SILENT_S", 3600.0)

    async with elected(etcd, namespace, tmp_path) as (seat, feed):
        seat.office.stepdown.ask("the test")
        with hearing() as heard, pytest.raises(SteppedDown):
            await see_all_before(feed, seat.office.leadership, seat.office.stepdown)
        assert [told["reason"] for told in heard.all(Events.STEPPING_DOWN)] == ["the test"]


@pytest.mark.timeout_s(15)
async def test_a_term_that_ends_is_not_begun_although_the_feed_is_silent(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(succession, "_SILENT_S", 3600.0)

    async with elected(etcd, namespace, tmp_path) as (seat, feed):
        seat.office.leadership.end("the test")
        with pytest.raises(TermLost, match="the test"):
            await see_all_before(feed, seat.office.leadership, seat.office.stepdown)
