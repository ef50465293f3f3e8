"""Admitting fires while etcd comes and goes: what was admitted is known, and is known once."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.admission import Admission
from leaderjob.model.ids import fire_id
from leaderjob.model.job import Timetable
from leaderjob.model.run import Run
from leaderjob.records.stored import Stored
from tests.support.cuttable import Cuttable
from tests.support.office import Seat, assigned, seated

_DUE = datetime(2020, 1, 1, tzinfo=UTC)
_RUN = fire_id(_DUE)


async def due(seat: Seat) -> Admission:
    """An admission that has one fire to account for."""
    timetable = Timetable(watermark=_DUE - timedelta(days=1), schedule=(_DUE.isoformat(),))
    await seat.outside.put(seat.keys.timetable("j"), timetable.to_bytes())
    admission = Admission(seat.office, assigned("j", _DUE.isoformat()))
    await admission.open()
    return admission


async def check_stored(seat: Seat, admitted: Stored[Run] | None) -> None:
    found = await seat.outside.get(seat.keys.run("j", _RUN))
    assert found is not None
    assert admitted is not None
    assert admitted.record == Run.from_bytes(found.value)
    assert (admitted.create_revision, admitted.mod_revision) == (found.create_revision, found.mod_revision)


@pytest.mark.timeout_s(10)
async def test_a_run_is_known_though_etcd_cannot_be_read_after_it_was_admitted(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        admission = await due(seat)

        async def reads_fail() -> None:
            seat.client.reads_fail = True

        seat.writer.after = reads_fail
        admitted = await admission.admit_due(None)
        assert seat.client.reads_fail
        seat.client.reads_fail = False
        await check_stored(seat, admitted)
        assert await admission.admit_due(None) is None


@pytest.mark.timeout_s(15)
async def test_a_run_is_known_though_its_admission_got_no_answer(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with (
        Cuttable(etcd.endpoint) as proxy,
        seated(etcd.endpoint, namespace, tmp_path, through=proxy.endpoint) as seat,
    ):
        admission = await due(seat)
        proxy.cut(requests=False)
        admitting = asyncio.ensure_future(admission.admit_due(None))
        while await seat.outside.get(seat.keys.run("j", _RUN)) is None:
            assert not admitting.done()
        proxy.reset()
        proxy.heal()
        await check_stored(seat, await admitting)


@pytest.mark.timeout_s(15)
async def test_a_run_is_known_though_its_admission_was_told_that_there_was_no_room(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """At the edge of its quota etcd may do a write and then say that it did not."""

    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        admission = await due(seat)
        seat.client.fates = ["took the last room"]
        await check_stored(seat, await admission.admit_due(None))


@pytest.mark.timeout_s(10)
async def test_a_fire_whose_key_is_occupied_is_accounted_for_and_not_run(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        admission = await due(seat)
        await seat.outside.put(seat.keys.run("j", _RUN), b"occupied")
        assert await admission.admit_due(None) is None
        found = await seat.outside.get(seat.keys.timetable("j"))
        assert found is not None
        assert Timetable.from_bytes(found.value).watermark == _DUE
