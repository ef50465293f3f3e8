"""An operator accepts the store as it is, after it was restored from a backup or reset."""

from leaderjob.errors import LeaderjobError, SettingsError
from leaderjob.etcd import AmbiguousWrite, Etcd, Put, modified_at
from leaderjob.model.history import History
from leaderjob.model.ids import new_incarnation
from leaderjob.records.keys import Keys, Kind
from leaderjob.records.stored import decode

SLACK = 1_000_000
"""Added to the highest revision that anybody noted: a replica that is gone may have seen later ones."""

_KEPT_IDS = 16


class NothingToAccept(LeaderjobError):
    """Nobody doubts the store."""


async def accept_restore(etcd: Etcd, keys: Keys, *, token_floor: int | None = None) -> History:
    """Begin a new history: with a new id, and a floor that puts its fencing tokens above all earlier ones.

    :param token_floor: at least this; by default above everything that the replicas saw.
    :returns: the new history.
    :raises NothingToAccept: no replica doubts the store, and no floor is given.
    :raises SettingsError: the floor is below the present one.
    """
    new_id = new_incarnation()
    while True:
        found = await etcd.get(keys.history)
        if found is None:
            raise NothingToAccept(
                f"there is nothing under {keys.history}: no replica has used this store yet. Start one"
            )
        old = decode(Kind.HISTORY, found).record
        assert isinstance(old, History)
        if old.id == new_id:
            return old  # the write that had got no answer was done
        if old.suspicion is None and token_floor is None:
            raise NothingToAccept(
                "no replica doubts this store, so there is nothing to accept. To raise the fencing tokens all "
                "the same, give --token-floor"
            )
        if token_floor is not None and token_floor < old.token_floor:
            raise SettingsError(
                f"the token floor is {old.token_floor} already: {token_floor} would repeat fencing tokens"
            )
        known = old.suspicion.known_revision + SLACK if old.suspicion else 0
        new = History(
            id=new_id,
            token_floor=max(old.token_floor + known, token_floor or 0),
            replaces=(*old.replaces, old.id)[-_KEPT_IDS:],
        )
        try:
            result = await etcd.txn(
                [modified_at(keys.history, found.mod_revision)], [Put(keys.history, new.to_bytes())]
            )
        except AmbiguousWrite:
            continue
        if result.succeeded:
            return new
