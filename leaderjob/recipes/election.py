"""Leader election, key-compatible with etcd's own recipe (etcd ``client/v3/concurrency/election.go``).

A candidate creates ``<prefix><lease id in hex>`` on its session's lease; the lowest create revision
leads; each candidate waits for the one before it, so a handover wakes one candidate and not all.
How it comes to office is in ``campaign.py``, what that is worth in ``leadership.py``.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Self

from leaderjob.errors import SettingsError
from leaderjob.etcd import (
    AmbiguousWrite,
    Etcd,
    EtcdError,
    EtcdUnavailable,
    Get,
    KeyValue,
    Put,
    follow,
    modified_at,
)
from leaderjob.recipes.campaign import Campaign, Proclaims, Witness
from leaderjob.recipes.errors import AlreadyStanding, NotLeader
from leaderjob.recipes.leadership import Leadership, fence
from leaderjob.recipes.own_key import delete_own
from leaderjob.recipes.place import place
from leaderjob.recipes.session import Session
from leaderjob.telemetry.events import Events, emit

_RESIGN_TIMEOUT_S = 1.0
_PAUSE_S = 0.1


class Election:
    """An election by its name. :raises InvalidName: ``name`` or ``namespace`` cannot be part of a key.

    :param token_floor: what is added to a create revision to make a token of it.
    """

    def __init__(self, etcd: Etcd, name: str, *, namespace: str = "default", token_floor: int = 0) -> None:
        self._set(etcd, place("elections", name, namespace), token_floor)

    @classmethod
    def below(cls, etcd: Etcd, prefix: str, *, token_floor: int = 0) -> Self:
        """One whose keys are elsewhere: leaderjob's own, or one that other programs have.

        :param prefix: with a trailing slash, so that none nests in another. :raises SettingsError: it has none.
        """
        if not prefix.endswith("/"):
            raise SettingsError(
                f"{prefix!r}: the prefix of an election ends with '/', so that none nests in another"
            )
        election = cls.__new__(cls)
        election._set(etcd, prefix, token_floor)
        return election

    def _set(self, etcd: Etcd, prefix: str, token_floor: int) -> None:
        self.etcd = etcd
        self.prefix = prefix
        self.token_floor = token_floor

    async def campaign(
        self,
        session: Session,
        value: bytes,
        *,
        witness: Witness | None = None,
        proclaims: Proclaims | None = None,
    ) -> Leadership:
        """Stand for election, and wait until it is won.

        A campaign that fails or is cancelled leaves no key behind; where it cannot delete it the session is lost,
        so that the lease takes it along.

        :param value: what others see of this candidate.
        :param witness: how to learn of the death of the candidate before this one in less than its TTL.
        :param proclaims: what others see of it once it leads, made at that moment and written with the win.
        :raises SessionLost: the lease is gone. :raises CampaignLost: the key was deleted.
        :raises AlreadyStanding: the session stands in this election. :raises EtcdError: etcd does not answer.
        """
        if session.stands_in is not None:
            raise AlreadyStanding(
                f"session {session.lease_id:x} stands in the election {session.stands_in!r} already: resign first, or "
                "open another session"
            )
        campaign = Campaign(
            self.etcd,
            self.prefix,
            session,
            token_floor=self.token_floor,
            witness=witness,
            proclaims=proclaims,
        )
        leadership = await campaign.win(value)
        leadership.begin()
        session.term = leadership.term.token
        emit(
            Events.TERM_WON,
            term=leadership.term.token,
            revision=leadership.won_revision,
            trusted_until=leadership.trusted_until,
        )
        return leadership

    async def leader(self) -> KeyValue | None:
        """Who leads now: the key with the lowest create revision."""
        return (await self.etcd.range(self.prefix)).first

    async def observe(self) -> AsyncGenerator[KeyValue | None, None]:
        """Who leads, now and at each change (of the leader, or of what it proclaims). Runs until closed."""
        candidates: dict[str, KeyValue] = {}
        last: KeyValue | None = None
        first = True
        async with aclosing(follow(self.etcd, self.prefix)) as batches:
            async for batch in batches:
                for event in batch.events:
                    if event.now is None:
                        candidates.pop(event.key, None)
                    else:
                        candidates[event.key] = event.now
                leader = min(candidates.values(), key=lambda kv: kv.create_revision, default=None)
                if first or leader != last:
                    first, last = False, leader
                    yield leader

    async def proclaim(self, leadership: Leadership, value: bytes) -> int:
        """Change what others see of this leader; returns the revision.

        An unanswered write is sent again under the same compare, so that it cannot land later, over a newer one; for
        as long as the term is trusted.

        :raises NotLeader: it is none any more. :raises TermLost: the trust deadline has passed.
        """
        term = leadership.term
        put = Put(term.key, value, lease=term.lease_id)
        while True:
            leadership.check()
            expected = leadership.key_revision
            compares = [*fence(term), modified_at(term.key, expected)]
            try:
                result = await self.etcd.txn(compares, [put], [Get(term.key)])
            except (AmbiguousWrite, EtcdUnavailable):
                await asyncio.sleep(_PAUSE_S)
                continue
            if result.succeeded:
                leadership.key_revision = max(leadership.key_revision, result.revision)
                return result.revision
            found = result.range(0).first
            if found is None or found.create_revision != term.create_revision:
                leadership.end("the election key is gone")
                raise NotLeader(f"term {term.token} no longer holds office; nothing was written")
            if found.mod_revision == expected:
                leadership.end("an older candidate stands")
                raise NotLeader(f"term {term.token} does not hold office; nothing was written")
            leadership.key_revision = max(leadership.key_revision, found.mod_revision)

    async def resign(self, leadership: Leadership, reason: str = "resigned") -> None:
        """Give up office; whoever is next takes over at once. Only when all work of the term has stopped.

        Compares before it deletes, so that it never removes a key that somebody else made (other than in an etcd that is
        full, which takes no new keys). Where etcd does not answer in time the session is lost too, and its lease takes
        the key with it.
        """
        leadership.end(reason)
        session, term = leadership.session, leadership.term
        if session.is_abandoned:
            return
        resigned = False
        try:
            await delete_own(self.etcd, term.key, term.create_revision, within_s=_RESIGN_TIMEOUT_S)
            resigned = True
        except EtcdError as error:
            emit(Events.CONNECTION_TROUBLE, term=term.token, reason=error)
        finally:
            if resigned and not leadership.may_return:
                session.stands_in = None
            else:
                session.lose("its key could not be deleted for good, and it must not be kept alive")
