"""One change of a configuration, committed once or not at all, whether or not etcd's answer arrives."""

from collections.abc import Sequence

from leaderjob.clock import boottime
from leaderjob.etcd import Compare, Delete, Etcd, Get, KeyValue, Op, Put, absent, modified_at
from leaderjob.recipes.config_record import ConfigEntry, Document, Keys
from leaderjob.recipes.settled import until_answered

MAX_KEPT = 100
"""Entries of a history. The transaction of a change deletes all that are older, so they have to fit into it."""


async def commit(
    etcd: Etcd, keys: Keys, entry: ConfigEntry, *, mod_revision: int, keep: int, give_up_at: float
) -> bool:
    """Write the document and its entry, where the document is still as it was; whether that was done.

    A write that got no answer is sent again under the same compare. Where that is refused, the entry tells: it bears
    the change's random id, and no number is given twice.

    :param mod_revision: of the document that the change stands on; 0: there is none.
    :param keep: how many entries stay. :param give_up_at: boot time in seconds.
    :raises AmbiguousWrite: nobody knows, by then, or because the entry would have been deleted since.
    """
    document = Document(number=entry.number, by=entry.by, at=entry.at, values=entry.after)
    own = keys.entry(entry.number)
    compares: Sequence[Compare] = (modified_at(keys.current, mod_revision), absent(own))
    past = range(max(1, entry.number - MAX_KEPT), entry.number - keep + 1)
    ops: list[Op] = [Put(keys.current, document.to_bytes()), Put(own, entry.to_bytes())]
    ops += [Delete(keys.entry(number)) for number in past]
    answer = await until_answered(
        etcd,
        compares,
        ops,
        [Get(own), Get(keys.history, prefix=True, newest=1)],
        patience_s=max(0.0, give_up_at - boottime()),
    )
    if answer.result.succeeded or answer.unanswered is None:
        return answer.result.succeeded
    own_entry, newest = answer.result.range(0).first, answer.result.range(1).first
    if own_entry is not None:
        return own_entry.value == entry.to_bytes()
    if newest is not None and not _is_before(keys, newest, entry):
        raise answer.unanswered  # it may have been there, and deleted since by later changes
    return False


def _is_before(keys: Keys, found: KeyValue, entry: ConfigEntry) -> bool:
    number = keys.number(found.key)
    return number is not None and number < entry.number
