"""What an etcd without space has done of what it says that it refused.

A transaction that takes the last room is done, and told to have found none (etcd #16659). As it was answered it is not
under way any more, so to look tells.
"""

from collections.abc import Sequence
from contextlib import suppress

from leaderjob.etcd.client import Etcd, look
from leaderjob.etcd.errors import AmbiguousWrite, Compacted, EtcdError
from leaderjob.etcd.txn import Compare, Get, TxnResult
from leaderjob.etcd.values import KeyValue


async def look_after_no_space(
    etcd: Etcd, compares: Sequence[Compare], reads: Sequence[Get]
) -> TxnResult | None:
    """What the keys are, after a transaction under ``compares`` got :class:`NoSpace`; None: they hold still, so nothing
    was done, if it changes what they compare.

    :param compares: each of one key, with ``=``. :param reads: what to answer with, as if they had been its failure.
    :raises AmbiguousWrite: etcd does not answer that.
    """
    try:
        while True:
            revision = 0
            found: dict[str, KeyValue | None] = {}
            with suppress(Compacted):
                for key in dict.fromkeys(compare.key for compare in compares):
                    read = await look(etcd, Get(key), revision=revision)
                    revision, found[key] = read.revision, read.first
                if all(compare.equals(found[compare.key]) for compare in compares):
                    return None
                return TxnResult(
                    False, revision, tuple([await look(etcd, one, revision=revision) for one in reads])
                )
    except EtcdError as error:
        raise AmbiguousWrite(etcd.connection.endpoint, f"it found no room, and then {error}") from error


def in_doubt(etcd: Etcd) -> AmbiguousWrite:
    """What is known of a transaction that got :class:`NoSpace`, and some of whose keys have changed."""
    return AmbiguousWrite(
        etcd.connection.endpoint, "it found no room, and may have been what took the last of it"
    )
