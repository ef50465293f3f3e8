"""Random campaigns, faults and interventions: one leader at a time, and nothing stays behind."""

import asyncio
import secrets
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from hypothesis import example, given
from hypothesis import strategies as st

from leaderjob.clock import boottime
from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.property.electorate import ANSWERED_WITHIN_S, TRUST_S, Candidate, Electorate
from tests.property.profile import profile
from tests.support.candidates import SHORT
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams

_ACKNOWLEDGED_TIMEOUT_S = 1.0


class Step(Protocol):
    async def take(self, electorate: Electorate) -> None: ...


@dataclass(frozen=True)
class _One:
    """A step of one candidate, by its number."""

    number: int

    def of(self, electorate: Electorate) -> Candidate:
        return electorate.candidates[self.number % electorate.count]


@dataclass(frozen=True)
class Stand(_One):
    """Campaign, with a session of its own where there is none."""

    async def take(self, electorate: Electorate) -> None:
        self.of(electorate).stand()


@dataclass(frozen=True)
class Resign(_One):
    async def take(self, electorate: Electorate) -> None:
        await self.of(electorate).resign()


@dataclass(frozen=True)
class Withdraw(_One):
    """Cancel the campaign. While the session goes on, only the campaign itself can remove the key; what was on
    its way to etcd may arrive later, and only closing the session settles that."""

    async def take(self, electorate: Electorate) -> None:
        candidate = self.of(electorate)
        if not candidate.standing:
            return
        entered = candidate.reachable and await electorate.has_key(candidate)
        began_at = boottime()
        await candidate.withdraw()
        if not entered or boottime() > began_at + ANSWERED_WITHIN_S:
            await candidate.leave()
        elif candidate.leading is None:
            assert not await electorate.has_key(candidate), "a cancelled campaign left its key behind"


@dataclass(frozen=True)
class Leave(_One):
    async def take(self, electorate: Electorate) -> None:
        await self.of(electorate).leave()


@dataclass(frozen=True)
class Revoke(_One):
    """An operator revokes the session's lease."""

    async def take(self, electorate: Electorate) -> None:
        session = self.of(electorate).session
        if session is not None:
            await electorate.revoke(session.lease_id)


@dataclass(frozen=True)
class Delete:
    """An operator deletes the oldest key, or the youngest."""

    oldest: bool

    async def take(self, electorate: Electorate) -> None:
        keys = await electorate.keys()
        if keys:
            await electorate.delete(keys[0 if self.oldest else -1])


@dataclass(frozen=True)
class DeleteAtItsClaim(_One):
    """The key vanishes just before the candidate's next claim arrives, and a keepalive is acknowledged between the
    two."""

    async def take(self, electorate: Electorate) -> None:
        candidate = self.of(electorate)

        async def delete() -> None:
            candidate.client.before_claim = None
            session = candidate.session
            mine = [
                kv for kv in await electorate.keys() if session is not None and kv.lease == session.lease_id
            ]
            if session is None or not mine:
                return
            deleted_at = await electorate.delete(mine[0])
            session.renew_now()
            try:
                async with asyncio.timeout(_ACKNOWLEDGED_TIMEOUT_S):
                    while await candidate.client.acknowledged.get() < deleted_at:
                        pass
            except TimeoutError:
                return

        candidate.client.before_claim = delete


@dataclass(frozen=True)
class Obstruct:
    """Somebody puts a key without a lease among the candidates."""

    name: str

    async def take(self, electorate: Electorate) -> None:
        await electorate.operator.put(f"{electorate.prefix}{self.name}", b"")


@dataclass(frozen=True)
class Reset(_One):
    async def take(self, electorate: Electorate) -> None:
        candidate = self.of(electorate)
        candidate.faults += 1
        candidate.proxy.reset()


@dataclass(frozen=True)
class Cut(_One):
    """Silence between the candidate and etcd, until :class:`Heal`."""

    requests: bool
    answers: bool

    async def take(self, electorate: Electorate) -> None:
        candidate = self.of(electorate)
        candidate.faults += 1
        candidate.reachable = False
        candidate.proxy.cut(requests=self.requests, answers=self.answers)


@dataclass(frozen=True)
class Heal(_One):
    """Let through what was held, or lose it."""

    lost: bool

    async def take(self, electorate: Electorate) -> None:
        candidate = self.of(electorate)
        candidate.faults += 1
        if self.lost:
            candidate.proxy.reset()
        candidate.proxy.heal()
        candidate.reachable = True


@dataclass(frozen=True)
class Expire(_One):
    """The candidate is cut off until its lease has run out."""

    async def take(self, electorate: Electorate) -> None:
        session = self.of(electorate).session
        if session is None:
            return
        await Cut(self.number, True, True).take(electorate)
        await electorate.expires(session.lease_id)
        await electorate.write_all()
        await Heal(self.number, lost=True).take(electorate)


@dataclass(frozen=True)
class Pass:
    """So many seconds go by."""

    seconds: float

    async def take(self, electorate: Electorate) -> None:
        await asyncio.sleep(self.seconds)


_NUMBERS = st.integers(0, 3)
_QUICK: list[st.SearchStrategy[Step]] = [
    st.builds(Stand, _NUMBERS),
    st.builds(Stand, _NUMBERS),
    st.builds(Stand, _NUMBERS),
    st.builds(Resign, _NUMBERS),
    st.builds(Withdraw, _NUMBERS),
    st.builds(Leave, _NUMBERS),
    st.builds(Revoke, _NUMBERS),
    st.builds(Delete, st.booleans()),
    st.builds(DeleteAtItsClaim, _NUMBERS),
    st.builds(Obstruct, st.sampled_from(["0", "z"])),
    st.builds(Reset, _NUMBERS),
    st.builds(Cut, _NUMBERS, st.booleans(), st.booleans()),
    st.builds(Heal, _NUMBERS, st.booleans()),
    st.builds(Pass, st.sampled_from([0.0, 0.01, 0.05, 0.3])),
]
_STEPS = st.one_of(*_QUICK, st.builds(Expire, _NUMBERS))


def _check_trust(electorate: Electorate) -> None:
    """One leader at a time, but for terms that an operator ended, of which the holder may learn late."""
    wins = electorate.wins
    tokens = [win.term.token for win in wins]
    assert len(set(tokens)) == len(tokens), f"a token was given twice: {tokens}"
    for win in wins:
        removed_at = electorate.removed_at(win)
        assert removed_at is None or win.trusted_until <= removed_at + TRUST_S, (
            f"term {win.term.token} is trusted until {win.trusted_until - removed_at:.3f} s after its key was gone"
        )
    undisturbed = [win for win in wins if electorate.removed_at(win) is None]
    trusted = [win.term.token for win in undisturbed if win.leadership.trusted]
    assert len(trusted) <= 1, f"trusted at the same time: {trusted}"
    for earlier, later in pairwise(wins):
        assert (
            electorate.removed_at(earlier) is not None or earlier.trusted_until <= later.leadership.won_at
        ), f"term {later.term.token} was won while {earlier.term.token} was trusted"
    revisions_and_tokens = sorted(electorate.accepted)
    accepted = [token for _, token in revisions_and_tokens]
    assert accepted == sorted(accepted), f"accepted at (revision, token): {revisions_and_tokens}"


async def _live_through(server: EmbeddedEtcd, count: int, steps: list[Step]) -> None:
    async with Electorate(server.endpoint, secrets.token_hex(4), count) as electorate:
        for step in steps:
            await step.take(electorate)
            await electorate.write_all()
            _check_trust(electorate)
        for number in range(count):
            await Heal(number, lost=False).take(electorate)
        await electorate.leader_emerges()
        for candidate in electorate.candidates:
            await candidate.leave()
            _check_trust(electorate)
        await electorate.keys_vanish()


@profile(examples=12)
@given(count=st.integers(2, 4), steps=st.lists(_STEPS, min_size=5, max_size=15))
@example(
    count=3, steps=[Stand(0), Pass(0.05), Stand(1), Pass(0.05), Stand(2), Pass(0.05), Withdraw(1), Resign(0)]
)
@example(count=2, steps=[Stand(0), Pass(0.05), Stand(1), Pass(0.05), Expire(0)])
@example(count=2, steps=[Stand(0), Pass(0.05), Stand(1), Pass(0.05), Expire(1), Resign(0)])
@example(count=2, steps=[DeleteAtItsClaim(0), Stand(0), Pass(0.3), Stand(1), Pass(0.3)])
@example(count=2, steps=[Stand(0), Pass(0.05), Obstruct("0"), Stand(1), Pass(0.05), Delete(oldest=True)])
def _hold_against_the_model(server: EmbeddedEtcd, count: int, steps: list[Step]) -> None:
    run_with_streams(_live_through(server, count, steps), timeout_s=120)


def test_one_candidate_leads_at_a_time_and_its_writes_alone_are_accepted_and_nothing_is_left(
    server: EmbeddedEtcd,
) -> None:
    _hold_against_the_model(server)
    deadline = time.monotonic() + 2 * SHORT.ttl_s
    while "found 0 leases" not in (listed := etcdctl(server.endpoint, "lease", "list")):
        assert time.monotonic() < deadline, f"somebody keeps these alive: {listed}"
        time.sleep(0.1)
