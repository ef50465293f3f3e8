"""Who gives up a lock, a permit or an office while etcd is full has given up that, and nothing else.

Whether an etcd that is full refuses a transaction which only deletes depends on its release, and on how full it is:
so these are told that it does.
"""

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.recipes import Election, Lock, Semaphore, Session
from tests.support.candidates import TIMING
from tests.support.etcd import every_release
from tests.support.full_etcd import fill
from tests.support.unanswered import Unanswered


@every_release("small_etcd")
async def test_what_is_released_while_etcd_is_full_is_gone_and_the_session_keeps_the_rest(
    small_etcd: EmbeddedEtcd,
) -> None:
    async with (
        Unanswered([small_etcd.endpoint]) as client,
        await Session.open(client, TIMING) as session,
    ):
        kept = await Lock(session, "kept").acquire()
        lock, semaphore = Lock(session, "a"), Semaphore(session, "s", 1)
        held, permit = await lock.acquire(), await semaphore.acquire()
        await fill(client)
        client.fates = ["found no room", "found no room"]
        await lock.release(held)
        await semaphore.release(permit)
        session.check()
        kept.check()
        standing = (await client.range("/leaderjob/default/")).kvs
        assert [kv.key for kv in standing if kv.lease] == [kept.key]


@every_release("small_etcd")
async def test_who_resigns_while_etcd_is_full_is_out_of_office_and_keeps_its_session(
    small_etcd: EmbeddedEtcd,
) -> None:
    async with (
        Unanswered([small_etcd.endpoint]) as client,
        await Session.open(client, TIMING) as session,
    ):
        kept = await Lock(session, "kept").acquire()
        election = Election(client, "boss")
        leadership = await election.campaign(session, b"1")
        await fill(client)
        client.fates = ["found no room"]
        await election.resign(leadership)
        session.check()
        kept.check()
        assert await election.leader() is None
