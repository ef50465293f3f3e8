"""No number of a version and no sequence of a pointer comes twice, whatever cannot be read any more."""

from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.publication import publish
from leaderjob.engine.quarantine import move_corrupt_records_aside
from leaderjob.model.artifact import Pointer
from leaderjob.model.run import Cause, Run, State
from leaderjob.records.stored import Stored
from tests.support.office import Seat, going_on, seated


async def published(seat: Seat, directory: Path, run_id: str, result: Any = 1) -> Pointer:
    """The pointer, after a run of the job ``j`` was published."""
    now = utcnow()
    run = Run(id=run_id, job="j", cause=Cause.TRIGGER, state=State.ADMITTED, created=now).begin(
        token=seat.office.token, replica="r1", ttl_s=1.0, now=now
    )
    revision = await seat.outside.put(seat.keys.run("j", run_id), run.to_bytes())
    made = directory / run_id
    made.mkdir()
    stored = Stored(seat.keys.run("j", run_id), run, revision, revision)
    done = await publish(seat.office, stored, made, result)
    await seat.feed.until(
        lambda view: (found := view.pointer("j")) is not None and found.record.version == done.version
    )
    found = seat.feed.view.pointer("j")
    assert found is not None
    return found.record


async def spoil(seat: Seat, *keys: str) -> None:
    """Return when the feed shows that all of them were moved aside."""
    spoilt = max([await seat.outside.put(key, b"spoilt") for key in keys])
    async with going_on(move_corrupt_records_aside(seat.office, {})):
        await seat.feed.until(lambda view: view.revision >= spoilt and not view.quarantined)
    for key in keys:
        found = await seat.outside.get(seat.keys.quarantine(key))
        assert found is not None
        assert found.value == b"spoilt"


@pytest.mark.parametrize("numbers", ["kept", "deleted", "spoilt"])
async def test_numbers_go_on_after_pointer_and_versions_were_quarantined(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, numbers: str
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        keys = seat.keys
        await published(seat, tmp_path, "a")
        second = await published(seat, tmp_path, "b")
        spoilt = [keys.pointer("j"), keys.version("j", 1), keys.version("j", 2)]
        if numbers == "deleted":
            await seat.outside.delete(keys.numbers("j"))
        if numbers == "spoilt":
            spoilt.append(keys.numbers("j"))
        await spoil(seat, *spoilt)
        third = await published(seat, tmp_path, "c")
        assert third.version == second.version + 1
        assert third.sequence > second.sequence
        assert await seat.outside.get(keys.numbers("j")) is not None


async def test_each_repair_of_a_pointer_gives_it_a_new_sequence(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        sequences = [(await published(seat, tmp_path, "a")).sequence]
        for _ in range(2):
            await spoil(seat, seat.keys.pointer("j"))
            view = await seat.feed.until(lambda view: view.pointer("j") is not None)
            found = view.pointer("j")
            assert found is not None
            assert found.record.version == 1
            sequences.append(found.record.sequence)
        sequences.append((await published(seat, tmp_path, "b")).sequence)
        assert sequences == sorted(set(sequences))


async def test_result_at_the_depth_bound_is_published_and_read(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    value: Any = 0
    for _ in range(100):
        value = [value]
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        assert (await published(seat, tmp_path, "a", value)).result == value
        assert not seat.feed.view.quarantined
