"""Sessions against a real etcd: how long a lease, and a term on it, may be trusted, and from when on."""

import asyncio
import time

import pytest

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, EtcdUnavailable, LeaseNotFound
from leaderjob.recipes import Session, SessionLost, TermLost, Timing
from tests.support.candidates import SHORT, TIMING, Observed, Place
from tests.support.cuttable import Cuttable
from tests.support.etcd import every_release


class Generous(Etcd):
    """Grants twice what is asked for, as a server with a longer minimum does."""

    async def grant(self, ttl_s: int) -> tuple[int, int]:
        return await super().grant(2 * ttl_s)


class Reluctant(Etcd):
    """Does not answer the first keepalives."""

    refusals = 0

    async def keep_alive(self, lease_id: int, *, timeout_s: float) -> int:
        if self.refusals:
            self.refusals -= 1
            raise EtcdUnavailable([self.connection.endpoint], "no answer to a keepalive")
        return await super().keep_alive(lease_id, timeout_s=timeout_s)


@pytest.fixture
def place(etcd: EmbeddedEtcd, namespace: str) -> Place:
    return Place(etcd.endpoint, namespace)


async def test_a_session_keeps_time_by_the_ttl_that_was_granted(etcd: EmbeddedEtcd) -> None:
    async with (
        Generous([etcd.endpoint]) as client,
        await Session.open(client, Timing(ttl_s=3, margin_s=1)) as session,
    ):
        assert (session.ttl_s, session.keepalive_s) == (6.0, 1.2)
        assert await client.keep_alive(session.lease_id, timeout_s=1) == 6


async def test_a_lease_is_renewed_as_patiently_as_any_other_call_is_made(etcd: EmbeddedEtcd) -> None:
    async with Reluctant([etcd.endpoint], call_timeout_s=0.5) as client:
        session = await Session.open(client, TIMING)
        client.refusals = 2
        asked_at = boottime()
        await session.renew()
        assert (client.refusals, session.acknowledged_at > asked_at) == (0, True)
        client.refusals = 1000
        with pytest.raises(EtcdUnavailable):
            await session.renew()
        assert boottime() - asked_at > 0.5
        client.refusals = 0
        await session.close()
        with pytest.raises(SessionLost):
            await session.renew()


async def test_time_is_counted_from_when_the_lease_was_asked_for_and_a_keepalive_was_sent(
    etcd: EmbeddedEtcd,
) -> None:
    async with Cuttable(etcd.endpoint) as proxy, Observed([proxy.endpoint]) as client:
        proxy.delay_s = 0.05
        asked_at = boottime()
        session = await Session.open(client, TIMING)
        granted_at = boottime()
        assert granted_at - asked_at > 0.1
        assert asked_at <= session.acknowledged_at < granted_at - 0.1
        async with session:
            sent_at = await client.acknowledged.get()
            answered_at = boottime()
            assert answered_at - sent_at > 0.1
            assert granted_at < session.acknowledged_at <= sent_at


@every_release("etcd")
@pytest.mark.timeout_s(5)
async def test_a_revoked_lease_ends_the_session(etcd: EmbeddedEtcd) -> None:
    async with (
        Observed([etcd.endpoint]) as client,
        Etcd([etcd.endpoint]) as operator,
        await Session.open(client, TIMING) as session,
    ):
        await client.acknowledged.get()
        session.check()
        await operator.revoke(session.lease_id)
        session.renew_now()
        assert "ran out or was revoked" in await session.wait_lost()
        with pytest.raises(SessionLost):
            session.check()


@every_release("etcd")
async def test_closing_a_session_revokes_its_lease_and_takes_its_keys_along(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client:
        async with await Session.open(client, TIMING) as session:
            await client.put(f"/{namespace}", b"", lease=session.lease_id)
        assert await client.get(f"/{namespace}") is None
        with pytest.raises(LeaseNotFound):
            await client.keep_alive(session.lease_id, timeout_s=1)
        with pytest.raises(SessionLost, match="closed"):
            session.check()


async def test_a_session_outlives_its_ttl_though_the_first_endpoint_falls_silent(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Cuttable(etcd.endpoint) as first,
        Etcd([first.endpoint, etcd.endpoint]) as client,
        Etcd([etcd.endpoint]) as other,
        await Session.open(client, Timing(ttl_s=2, margin_s=0.5)) as session,
    ):
        await client.put(f"/{namespace}", b"", lease=session.lease_id)
        first.cut()
        await asyncio.sleep(2.5)  # the TTL has to pass
        session.check()
        assert await other.get(f"/{namespace}") is not None


async def test_closing_does_not_wait_long_for_an_etcd_that_does_not_answer(etcd: EmbeddedEtcd) -> None:
    async with Cuttable(etcd.endpoint) as proxy, Etcd([proxy.endpoint]) as client:
        async with await Session.open(client, Timing(ttl_s=2, margin_s=0.5)) as session:
            proxy.cut()
            closing_at = boottime()
        assert session.is_lost
        assert boottime() - closing_at < 1.5


# Trust


async def test_a_confirmed_keepalive_extends_trust_counted_from_when_it_was_sent(place: Place) -> None:
    async with (
        Cuttable(place.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint, timing=SHORT) as (election, session, client),
    ):
        leadership = await election.campaign(session, b"")
        proxy.delay_s = 0.05
        trust_s = SHORT.ttl_s - SHORT.margin_s
        confirmed = await client.acknowledged.get()
        for _ in range(4):
            acknowledged = await client.acknowledged.get()
            # The one before is confirmed by now, and this one is not.
            assert leadership.trusted_until <= confirmed + trust_s
            confirmed = acknowledged
        assert leadership.trusted_until > leadership.won_at + trust_s


@pytest.mark.timeout_s(5)
async def test_a_keepalive_that_is_acknowledged_but_not_confirmed_extends_nothing(place: Place) -> None:
    """A member whose disk stalls goes on acknowledging while the quorum has deleted the key."""

    async with place.candidate(timing=SHORT) as (election, session, client):
        leadership = await election.campaign(session, b"")
        client.reads_fail = True
        for _ in range(2):
            await client.acknowledged.get()
        before, acknowledged_at = leadership.trusted_until, session.acknowledged_at
        for _ in range(4):
            await client.acknowledged.get()
        assert session.acknowledged_at > acknowledged_at
        assert leadership.trusted_until == before
        assert "trust deadline" in await leadership.wait_ended()
        assert 0 <= boottime() - before < 0.5
        with pytest.raises(TermLost):
            leadership.check()
        assert not session.is_lost


@pytest.mark.timeout_s(5)
async def test_trust_goes_on_when_confirmations_come_again(place: Place) -> None:
    async with place.candidate(timing=SHORT) as (election, session, client):
        leadership = await election.campaign(session, b"")
        client.reads_fail = True
        for _ in range(3):
            await client.acknowledged.get()
        before = leadership.trusted_until
        client.reads_fail = False
        for _ in range(3):  # the last of these is not confirmed yet, the one before is
            await client.acknowledged.get()
        assert leadership.trusted_until > before


@pytest.mark.timeout_s(5)
async def test_a_keepalive_acknowledged_while_the_win_is_proved_does_not_count_for_it(place: Place) -> None:
    """Only what was acknowledged before the key was read is confirmed by reading it."""

    async with place.candidate() as (election, session, client):
        await client.acknowledged.get()
        sent_at = session.acknowledged_at

        async def acknowledge() -> None:
            session.acknowledged_at = boottime() + 5

        client.before_claim = acknowledge
        client.reads_fail = True
        leadership = await election.campaign(session, b"")
        assert leadership.trusted_until == sent_at + TIMING.ttl_s - TIMING.margin_s


@pytest.mark.timeout_s(5)
async def test_a_win_that_took_longer_than_its_keepalive_is_good_for_is_not_declared_as_it_is(
    place: Place,
) -> None:
    async with place.candidate(timing=SHORT) as (election, session, client):

        async def dawdle() -> None:
            client.before_claim = None
            await asyncio.sleep(SHORT.ttl_s - SHORT.margin_s + 0.1)

        client.before_claim = dawdle
        leadership = await election.campaign(session, b"")
        assert leadership.trusted


@every_release("etcd")
@pytest.mark.timeout_s(5)
async def test_a_key_that_an_operator_deletes_ends_the_term_though_the_lease_lives(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with place.candidate() as (election, session, client), place.outside() as operator:
        leadership = await election.campaign(session, b"")
        await operator.delete(leadership.term.key)
        session.renew_now()
        assert "key is gone" in await leadership.wait_ended()
        with pytest.raises(TermLost):
            leadership.check()
        assert await client.keep_alive(session.lease_id, timeout_s=1) > 0
        assert session.is_lost, "the next campaign needs a new lease"
        await operator.revoke(session.lease_id)


@pytest.mark.timeout_s(5)
async def test_a_process_that_was_stopped_for_longer_than_its_trust_knows_it_at_once(place: Place) -> None:
    async with place.candidate(timing=SHORT) as (election, session, _):
        leadership = await election.campaign(session, b"")
        leadership.check()
        time.sleep(SHORT.ttl_s - SHORT.margin_s + 0.05)  # as SIGSTOP does: nothing of the loop runs
        with pytest.raises(TermLost, match="trust deadline"):
            leadership.check()
        assert "trust deadline" in await leadership.wait_ended()
