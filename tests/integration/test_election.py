"""Elections against a real etcd: who wins, what the fence lets through, and what is left behind."""

import asyncio
from contextlib import aclosing

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, SettingsError
from leaderjob.etcd import EtcdUnavailable, Put
from leaderjob.model.term import Term
from leaderjob.recipes import CampaignLost, Election, NotLeader, SessionLost, TermLost, fence
from tests.support.candidates import Place, campaigning
from tests.support.cuttable import Cuttable
from tests.support.etcd import every_release


@pytest.fixture
def place(etcd: EmbeddedEtcd, namespace: str) -> Place:
    return Place(etcd.endpoint, namespace)


# Winning


@every_release("etcd")
async def test_the_key_is_the_prefix_and_the_lease_in_hex_as_in_etcds_own_recipe(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate() as (election, session, _):
        leadership = await election.campaign(session, b"me")
        (key,) = await place.until(1)
        assert key.key == f"{place.prefix}{session.lease_id:x}" == leadership.term.key
        assert (key.lease, key.value) == (session.lease_id, b"me")
        assert leadership.term.token == key.create_revision
        leadership.check()


async def test_an_election_has_its_keys_where_its_name_and_namespace_say_or_below_a_prefix(
    place: Place,
) -> None:
    async with place.candidate() as (elsewhere, session, client):
        named = Election(client, "reports", namespace="ours", token_floor=7)
        assert (named.prefix, named.token_floor) == ("/leaderjob/ours/elections/reports/", 7)
        same = Election.below(client, named.prefix)
        leadership = await named.campaign(session, b"me")
        for election in (named, same):
            leader = await election.leader()
            assert leader is not None
            assert leader.value == b"me"
        assert await elsewhere.leader() is None
        await named.resign(leadership)


async def test_what_cannot_be_an_election_is_refused(place: Place) -> None:
    async with place.outside() as client:
        for name, namespace in (("a/b", "ours"), ("", "ours"), ("Upper", "ours"), ("a", "o/urs")):
            with pytest.raises(InvalidName):
                Election(client, name, namespace=namespace)
        with pytest.raises(SettingsError, match="ends with '/'"):
            Election.below(client, "/elections/a")


@pytest.mark.timeout_s(5)
async def test_office_passes_in_the_order_of_arrival_and_tokens_grow(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.candidate() as (third, session_3, _),
    ):
        one = await first.campaign(session_1, b"1")
        async with campaigning(second, session_2, b"2") as winning_2:
            await place.until(2)
            async with campaigning(third, session_3, b"3") as winning_3:
                await place.until(3)
                await first.resign(one)
                two = await winning_2
                assert not winning_3.done()
                await second.resign(two)
                three = await winning_3
        tokens = [leadership.term.token for leadership in (one, two, three)]
        assert tokens == sorted(set(tokens))
        for deposed in (one, two):
            with pytest.raises(TermLost, match="resigned"):
                deposed.check()


@pytest.mark.timeout_s(5)
async def test_a_handover_wakes_the_next_candidate_and_nobody_else(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.candidate() as (third, session_3, third_client),
    ):
        leadership = await first.campaign(session_1, b"")
        async with campaigning(second, session_2) as winning:
            await place.until(2)
            async with campaigning(third, session_3):
                await place.until(3)
                await third_client.claimed.get()
                await first.resign(leadership)
                await winning
                for _ in range(10):  # whoever else was woken has asked again by then
                    await third_client.get(place.prefix)
                assert third_client.claimed.empty()


@pytest.mark.timeout_s(5)
async def test_a_win_is_declared_only_after_the_own_key_was_read_again(place: Place) -> None:
    """The key vanishes right before the claim arrives that would have won."""

    async with place.candidate() as (election, session, client), place.outside() as operator:
        client.before_claim = lambda: operator.delete(f"{place.prefix}{session.lease_id:x}")
        with pytest.raises(CampaignLost):
            await election.campaign(session, b"")


@pytest.mark.timeout_s(5)
async def test_a_candidate_whose_key_was_made_anew_by_somebody_else_has_lost(place: Place) -> None:
    async with place.candidate() as (election, session, client), place.outside() as operator:
        key = f"{place.prefix}{session.lease_id:x}"

        async def replace() -> None:
            client.before_claim = None
            await operator.delete(key)
            await operator.put(key, b"")

        client.before_claim = replace
        with pytest.raises(CampaignLost):
            await election.campaign(session, b"")


@pytest.mark.timeout_s(5)
async def test_a_campaign_whose_first_write_got_no_answer_wins_with_the_key_that_it_made(
    place: Place,
) -> None:
    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint) as (election, session, client),
    ):
        await client.acknowledged.get()
        proxy.cut(requests=False)
        async with campaigning(election, session) as winning:
            (key,) = await place.until(1)
            proxy.reset()
            proxy.heal()
            leadership = await winning
        assert leadership.term.create_revision == key.create_revision


# The fence


@pytest.mark.timeout_s(5)
async def test_a_queued_candidate_cannot_write_though_its_key_is_there(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, client),
    ):
        await first.campaign(session_1, b"")
        async with campaigning(second, session_2):
            _, queued = await place.until(2)
            term = Term(place.prefix, session_2.lease_id, queued.create_revision)
            key_is_mine, nobody_is_before_me = fence(term)
            assert (await client.txn([key_is_mine])).succeeded
            assert not (await client.txn([nobody_is_before_me])).succeeded
            assert not (await client.txn(fence(term), [Put(f"{place.prefix}x", b"")])).succeeded


@pytest.mark.timeout_s(5)
async def test_a_deposed_leader_cannot_write_though_nobody_is_before_it(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, client),
        place.candidate() as (second, session_2, _),
    ):
        deposed = await first.campaign(session_1, b"")
        async with campaigning(second, session_2) as winning:
            await place.until(2)
            await client.delete(deposed.term.key)
            await winning
            key_is_mine, nobody_is_before_me = fence(deposed.term)
            assert (await client.txn([nobody_is_before_me])).succeeded
            assert not (await client.txn([key_is_mine])).succeeded
            assert not (await client.txn(fence(deposed.term), [Put(f"{place.prefix}x", b"")])).succeeded


@pytest.mark.timeout_s(5)
async def test_a_deposed_leader_proclaims_nothing(place: Place) -> None:
    async with place.candidate() as (election, session, _), place.outside() as operator:
        leadership = await election.campaign(session, b"candidate")
        revision = await election.proclaim(leadership, b"leader")
        leader = await election.leader()
        assert leader is not None
        assert (leader.value, leader.mod_revision, leader.lease) == (
            b"leader",
            revision,
            session.lease_id,
        )
        await operator.delete(leadership.term.key)
        with pytest.raises(NotLeader):
            await election.proclaim(leadership, b"leader again")
        assert await election.leader() is None
        with pytest.raises(TermLost):
            leadership.check()


# What is left behind


@pytest.mark.timeout_s(5)
async def test_a_cancelled_campaign_leaves_no_key(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, client),
    ):
        leadership = await first.campaign(session_1, b"")
        async with campaigning(second, session_2):
            await place.until(2)
            await client.claimed.get()
        standing = await first.etcd.range(place.prefix)
        assert [kv.key for kv in standing.kvs] == [leadership.term.key]
        assert not session_2.is_lost


@pytest.mark.timeout_s(5)
async def test_a_campaign_that_fails_leaves_no_key(place: Place) -> None:
    async def fail() -> None:
        raise EtcdUnavailable([place.endpoint], "no quorum")

    async with place.candidate() as (election, session, client):
        client.before_claim = fail
        with pytest.raises(EtcdUnavailable):
            await election.campaign(session, b"")
        client.before_claim = None
        assert await election.leader() is None
        assert not session.is_lost


@pytest.mark.timeout_s(5)
async def test_a_candidate_whose_lease_is_revoked_while_it_waits_has_lost_its_session(place: Place) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.outside() as operator,
    ):
        await first.campaign(session_1, b"")
        async with campaigning(second, session_2) as winning:
            await place.until(2)
            await operator.revoke(session_2.lease_id)
            session_2.renew_now()
            with pytest.raises((SessionLost, CampaignLost)):
                await winning
        with pytest.raises(SessionLost):
            await second.campaign(session_2, b"")


@pytest.mark.timeout_s(5)
async def test_resigning_does_not_delete_a_key_that_somebody_else_made(place: Place) -> None:
    async with place.candidate() as (election, session, _), place.outside() as operator:
        leadership = await election.campaign(session, b"mine")
        await operator.delete(leadership.term.key)
        await operator.put(leadership.term.key, b"somebody else's")
        await election.resign(leadership)
        found = await operator.get(leadership.term.key)
        assert found is not None
        assert found.value == b"somebody else's"


@pytest.mark.timeout_s(5)
async def test_a_key_without_a_lease_does_not_block_the_election(place: Place) -> None:
    async with place.candidate() as (election, session, _), place.outside() as operator:
        await operator.put(f"{place.prefix}oldest", b"for ever")
        await operator.put(f"{place.prefix}old", b"for ever")
        leadership = await election.campaign(session, b"")
        (key,) = await place.until(1)
        assert key.key == leadership.term.key


@pytest.mark.timeout_s(5)
async def test_an_observer_sees_each_leader_and_what_it_proclaims_and_that_there_is_none(
    place: Place,
) -> None:
    async with (
        place.candidate() as (first, session_1, _),
        place.candidate() as (second, session_2, _),
        place.outside() as client,
        aclosing(Election.below(client, place.prefix).observe()) as leaders,
    ):

        async def value() -> bytes | None:
            leader = await anext(leaders)
            return leader.value if leader else None

        assert await value() is None
        one = await first.campaign(session_1, b"one")
        assert await value() == b"one"
        await first.proclaim(one, b"one leads")
        assert await value() == b"one leads"
        async with campaigning(second, session_2, b"two") as winning:
            await place.until(2)
            await first.resign(one)
            assert await value() == b"two"
            await second.resign(await winning)
            assert await value() is None


@pytest.mark.timeout_s(15)
async def test_who_proclaims_twice_at_once_stays_in_office(place: Place) -> None:
    async with place.candidate() as (election, session, _):
        leadership = await election.campaign(session, b"")
        for _ in range(20):
            await asyncio.gather(
                *(election.proclaim(leadership, f"{number}".encode()) for number in range(4))
            )
        leadership.check()
