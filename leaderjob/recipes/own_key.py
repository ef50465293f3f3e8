"""Giving up a key that bears the id of its session's lease, so that nobody else makes it."""

from leaderjob.etcd import Delete, Etcd, NoSpace, created_at


async def delete_own(etcd: Etcd, key: str, create_revision: int, *, within_s: float) -> None:
    """Delete the key that was created at that revision; one that is gone already is no error.

    :param within_s: the deadline of all tries together; of two such calls where etcd is full.
    :raises EtcdError: it may be there still, or be deleted later.
    """
    # By compare: a try that got no answer may land when the session stands here again, by the same key.
    mine = created_at(key, create_revision)
    try:
        await etcd.txn([mine], [Delete(key)], repeatable=True, within_s=within_s)
    except NoSpace:
        # An etcd that is full may refuse any transaction, and takes this. Sent once, for it compares nothing.
        await etcd.delete(key, within_s=within_s)
