"""Leaving an election, in order or not, leaves nothing behind that keeps others from office."""

import asyncio

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, LeaseNotFound
from leaderjob.recipes import AlreadyStanding, Election, Session, Timing
from tests.support.candidates import SHORT, TIMING, Place, campaigning
from tests.support.cuttable import Cuttable


@pytest.fixture
def place(etcd: EmbeddedEtcd, namespace: str) -> Place:
    return Place(etcd.endpoint, namespace)


@pytest.mark.timeout_s(15)
async def test_a_candidate_that_could_not_withdraw_does_not_come_to_office_later(place: Place) -> None:
    """Its key is still in the queue when etcd is back; a session that lived on would keep it there for ever."""

    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate() as (first, session_1, _),
        place.candidate(endpoint=proxy.endpoint, timing=SHORT) as (second, session_2, _),
        place.candidate() as (third, session_3, _),
    ):
        leads = await first.campaign(session_1, b"first")
        async with campaigning(second, session_2, b"second"):
            await place.until(2)
            proxy.cut()
        assert "could not be deleted for good" in await session_2.wait_lost()
        proxy.reset()
        proxy.heal()
        await first.resign(leads)
        assert (await third.campaign(session_3, b"third")).trusted


@pytest.mark.timeout_s(15)
async def test_a_candidacy_whose_write_is_under_way_when_it_is_cancelled_does_not_outlive_it(
    place: Place,
) -> None:
    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint, timing=SHORT) as (election, session, client),
    ):
        await client.acknowledged.get()
        proxy.cut()
        async with campaigning(election, session):
            await asyncio.sleep(0.1)
        assert session.is_lost
        proxy.heal()
        await place.until(0)


@pytest.mark.timeout_s(15)
async def test_a_candidacy_that_may_still_arrive_after_it_was_withdrawn_is_not_kept_alive(
    place: Place,
) -> None:
    """Its write got stuck on the way to one endpoint; through another one there is nothing to withdraw yet."""

    async with (
        Cuttable(place.endpoint) as proxy,
        Etcd([proxy.endpoint, place.endpoint]) as client,
        await Session.open(client, TIMING) as session,
    ):
        await client.get(place.prefix)
        proxy.cut()
        async with campaigning(Election.below(client, place.prefix), session):
            await asyncio.sleep(0.1)
        assert session.is_lost
        proxy.heal()


@pytest.mark.timeout_s(15)
async def test_a_leader_that_could_not_resign_does_not_keep_office(place: Place) -> None:
    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint, timing=SHORT) as (election, session, _),
    ):
        leadership = await election.campaign(session, b"")
        proxy.cut()
        await election.resign(leadership)
        assert "could not be deleted" in await session.wait_lost()
        proxy.heal()
        await place.until(0)


@pytest.mark.timeout_s(15)
async def test_office_is_given_up_and_the_lease_ended_through_another_endpoint(place: Place) -> None:
    """While the first one is cut off, and says nothing."""

    async with (
        Cuttable(place.endpoint) as proxy,
        Etcd([proxy.endpoint, place.endpoint]) as client,
        await Session.open(client, Timing(ttl_s=60, margin_s=2)) as session,
        place.outside() as outside,
    ):
        election = Election.below(client, place.prefix)
        leadership = await election.campaign(session, b"")
        assert client.connection.endpoint == proxy.endpoint
        proxy.cut()
        await election.resign(leadership)
        assert not session.is_lost
        assert await outside.get(leadership.term.key) is None
        await session.close()
        with pytest.raises(LeaseNotFound):
            await outside.keep_alive(session.lease_id, timeout_s=1)
        proxy.heal()


@pytest.mark.timeout_s(15)
async def test_a_session_that_lost_its_key_ends_its_lease_when_it_is_closed(place: Place) -> None:
    async with place.outside() as operator:
        async with place.candidate(timing=TIMING) as (election, session, _):
            leadership = await election.campaign(session, b"")
            await operator.delete(leadership.term.key)
            session.renew_now()
            await leadership.wait_ended()
            assert session.is_lost
            assert await operator.keep_alive(session.lease_id, timeout_s=1) > 0
        with pytest.raises(LeaseNotFound):
            await operator.keep_alive(session.lease_id, timeout_s=1)


@pytest.mark.timeout_s(15)
async def test_a_session_stands_in_one_election_at_a_time(place: Place) -> None:
    """Two terms in one election would have one token, and of two elections its keepalives confirm one."""

    async with place.candidate() as (election, session, client):
        leadership = await election.campaign(session, b"")
        for prefix in (place.prefix, place.prefix.replace("election", "other")):
            with pytest.raises(AlreadyStanding, match="resign first"):
                await Election.below(client, prefix).campaign(session, b"again")
        leadership.check()
        assert [key.value for key in await place.until(1)] == [b""]
        await election.resign(leadership)
        again = await election.campaign(session, b"again")
        assert again.term.token > leadership.term.token


@pytest.mark.timeout_s(15)
async def test_a_key_that_may_come_back_is_not_kept_alive_when_its_leader_resigns(place: Place) -> None:
    """The first try to create it was not answered, and neither it nor the second one is known to be over."""

    async with (
        Cuttable(place.endpoint) as proxy,
        Etcd([proxy.endpoint, place.endpoint]) as client,
        await Session.open(client, TIMING) as session,
    ):
        await client.get(place.prefix)
        proxy.cut()
        election = Election.below(client, place.prefix)
        leadership = await election.campaign(session, b"")
        await election.resign(leadership)
        assert session.is_lost
        proxy.heal()


@pytest.mark.timeout_s(30)
async def test_a_campaign_that_is_cancelled_twice_keeps_no_key_alive(place: Place) -> None:
    async with place.outside() as outside:
        for number in range(30):
            async with place.candidate() as (election, session, _):
                campaign = asyncio.create_task(election.campaign(session, b""))
                for _ in range(2 + number % 9):
                    await asyncio.sleep(0)
                campaign.cancel()
                await asyncio.sleep(0)
                campaign.cancel()
                await asyncio.wait([campaign])
                stands = (await outside.range(place.prefix)).count
                assert session.is_lost or not stands, f"after {2 + number % 9} steps"
