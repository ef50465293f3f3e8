"""What a leader tells of its own trust: extended, at risk, restored, lost."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.recipes import Timing
from leaderjob.telemetry.events import Events, listen
from tests.support.candidates import Place

_TRUST = {Events.TRUST_AT_RISK, Events.TRUST_RESTORED, Events.TRUST_LOST}


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[Events, dict[str, Any]]] = []

    def __call__(self, event: Events, fields: Mapping[str, Any]) -> None:
        self.events.append((event, dict(fields)))

    def of_trust(self) -> list[Events]:
        return [event for event, _ in self.events if event in _TRUST]

    async def until(self, event: Events) -> dict[str, Any]:
        while not any(told is event for told, _ in self.events):
            await asyncio.sleep(0.01)
        return next(fields for told, fields in self.events if told is event)


@pytest.fixture
def told() -> Iterator[Told]:
    listener = Told()
    end = listen(listener)
    yield listener
    end()


@pytest.mark.timeout_s(20)
async def test_a_leader_tells_when_its_trust_runs_out_and_when_it_does_not_after_all(
    etcd: EmbeddedEtcd, namespace: str, told: Told
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate(timing=Timing(ttl_s=4, margin_s=1.0, keepalive_s=0.2)) as (
        election,
        session,
        client,
    ):
        leadership = await election.campaign(session, b"")
        ending = asyncio.create_task(leadership.wait_ended())
        extended = await told.until(Events.TRUST_EXTENDED)
        assert extended["term"] == leadership.term.token
        assert 2.0 < extended["left_s"] <= 3.0
        client.reads_fail = True
        at_risk = await told.until(Events.TRUST_AT_RISK)
        assert 0.5 < at_risk["left_s"] <= 1.5
        client.reads_fail = False
        await told.until(Events.TRUST_RESTORED)
        assert leadership.trusted
        client.reads_fail = True
        await told.until(Events.TRUST_LOST)
        assert not leadership.trusted
        assert "no keepalive was confirmed" in await ending
    assert told.of_trust() == [
        Events.TRUST_AT_RISK,
        Events.TRUST_RESTORED,
        Events.TRUST_AT_RISK,
        Events.TRUST_LOST,
    ]


@pytest.mark.timeout_s(20)
async def test_a_leader_without_trouble_tells_of_no_risk(
    etcd: EmbeddedEtcd, namespace: str, told: Told
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate(timing=Timing(ttl_s=3, margin_s=1.0)) as (election, session, _):
        leadership = await election.campaign(session, b"")
        ending = asyncio.create_task(leadership.wait_ended())
        await asyncio.sleep(3.0)  # longer than its trust, were it not extended
        assert not ending.done()
        await election.resign(leadership)
        await ending
    assert told.of_trust() == []


@pytest.mark.timeout_s(20)
async def test_who_takes_over_knows_since_when_the_way_was_free(etcd: EmbeddedEtcd, namespace: str) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate() as (one, session, _), place.candidate() as (other, second, client):
        leadership = await one.campaign(session, b"")
        assert leadership.free_at is None, "nobody was before it"
        following = asyncio.create_task(other.campaign(second, b""))
        await client.claimed.get()  # it knows whom to wait for
        await one.resign(leadership)
        next_one = await following
        assert next_one.free_at is not None
        assert 0 <= next_one.won_at - next_one.free_at < 5
