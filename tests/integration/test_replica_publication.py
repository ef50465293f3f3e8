"""Publishing against a real etcd, while somebody else's hand is in the pointer."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.office import Limits, Office
from leaderjob.engine.publication import publish
from leaderjob.engine.stepdown import StepDown
from leaderjob.etcd import Etcd, KeyValue, Put, absent
from leaderjob.model.artifact import Pointer
from leaderjob.model.history import History
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.recipes import Election, Session, Timing
from leaderjob.records.feed import Feed
from leaderjob.records.fenced import FencedWriter
from leaderjob.records.keys import Keys
from leaderjob.records.stored import Stored
from leaderjob.results.store import StagedArtifact, Store
from leaderjob.scheduling.alarm import Alarm


class _Interrupted(Etcd):
    """Does something else right after a key was read for the first time, before its reader can act on it."""

    key = ""
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def get(self, key: str, *, revision: int = 0, urgent: bool = False) -> KeyValue | None:
        found = await super().get(key, revision=revision, urgent=urgent)
        if key == self.key and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return found


@asynccontextmanager
async def office(
    endpoint: str, namespace: str, directory: Path
) -> AsyncIterator[tuple[Office, _Interrupted]]:
    """A term's office without a replica around it."""
    keys = Keys(namespace)
    with Store(directory / "store") as store:
        async with _Interrupted([endpoint]) as etcd, await Session.open(etcd, Timing()) as session:
            leadership = await Election.below(etcd, keys.election).campaign(session, b"{}")
            feed = Feed(etcd, keys)
            following = asyncio.create_task(feed.run())
            try:
                yield (
                    Office(
                        replica="r1",
                        leadership=leadership,
                        writer=FencedWriter(leadership),
                        keys=keys,
                        feed=feed,
                        history=History(id="h"),
                        store=store,
                        alarm=Alarm(),
                        work_dir=directory,
                        cwd=directory,
                        previous=lambda job: None,
                        stepdown=StepDown(),
                        attestation=nullcontext,
                        limits=Limits(
                            publish_after=1,
                            publish_timeout_s=5.0,
                            keep_versions=1,
                            keep_runs=10,
                            keep_skipped=10,
                            kill_grace_s=1.0,
                        ),
                    ),
                    etcd,
                )
            finally:
                following.cancel()
                await asyncio.wait([following])


async def test_a_pointer_that_was_written_meanwhile_is_not_overwritten_but_followed(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with office(etcd.endpoint, namespace, tmp_path) as (term, client):
        now = utcnow()
        run = Run(id="mine", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=now)
        run = run.begin(token=term.token, replica="r1", ttl_s=10.0, now=now)
        key, pointer_key = term.keys.run("j", run.id), term.keys.pointer("j")
        revision = await term.writer.commit([absent(key)], [Put(key, run.to_bytes())])
        made = tmp_path / "made"
        made.mkdir()
        (made / "file").write_text("content")
        other = Pointer(
            version=7,
            sequence=9,
            run="another",
            token=1,
            digest="blake3:" + "0" * 64,
            manifest_bytes=1,
            size_bytes=1,
            file_count=1,
            published=now,
        )
        client.key = pointer_key
        client.meanwhile = lambda: client.put(pointer_key, other.to_bytes())
        done = await publish(term, Stored(key, run, revision, revision), made, None)
        assert client.meanwhile is None, "the pointer was not read before it was written"
        found = await client.get(pointer_key)
        assert found is not None
        pointer = Pointer.from_bytes(found.value)
    assert (pointer.run, pointer.version, pointer.sequence) == ("mine", 8, 10)
    assert (done.outcome, done.version) == (Outcome.SUCCEEDED, 8)


@pytest.mark.parametrize("heeds", [True, False], ids=["cut short", "too late"])
async def test_a_publication_that_is_cancelled_while_its_files_are_taken_in_leaves_nothing_behind(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, heeds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on, taken_in = threading.Event(), threading.Event(), []
    add = Store.add

    def add_slowly(*arguments: Any, cancelled: Callable[[], bool]) -> StagedArtifact:
        began.set()
        go_on.wait()
        assert cancelled(), "nobody told the thread"
        taken_in.append(add(*arguments, cancelled=lambda: heeds))
        return taken_in[-1]

    monkeypatch.setattr(Store, "add", add_slowly)

    async with office(etcd.endpoint, namespace, tmp_path) as (term, _):
        run = Run(id="mine", job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=utcnow())
        made = tmp_path / "made"
        made.mkdir()
        (made / "file").write_text("content")
        publishing = asyncio.create_task(publish(term, Stored("/run", run, 1, 1), made, None))
        await asyncio.to_thread(began.wait)
        publishing.cancel()
        await asyncio.sleep(0)
        waits = not publishing.done()
        go_on.set()
        await asyncio.wait([publishing])
        assert waits, "it did not wait for the thread that still moves its files"
        assert publishing.cancelled()
        assert len(taken_in) == (0 if heeds else 1)
        term.store.sweep(())
        assert list(term.store.root.glob("objects/*/*/*")) == []
