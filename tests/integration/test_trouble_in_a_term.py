"""A term whose writes have to wait says so, once, and says why."""

import asyncio

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, Put, absent
from leaderjob.model.job import JobSpec
from leaderjob.records.fenced import FencedWriter
from leaderjob.records.keys import Keys
from tests.support.candidates import Place
from tests.support.commands import said
from tests.support.cuttable import Cuttable
from tests.support.full_etcd import fill, make_room
from tests.support.streams import run_with_streams


def troubles(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    fields = [
        getattr(record, "fields", {})
        for record in caplog.records
        if record.msg in ("connection_trouble", "etcd_full")
    ]
    caplog.clear()
    return fields


async def test_a_full_store_is_reported_once_and_the_writes_are_done_when_there_is_room(
    small_etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(small_etcd.endpoint, namespace)
    async with place.candidate() as (election, session, _), place.outside() as outside:
        leadership = await election.campaign(session, b"")
        writer = FencedWriter(leadership)
        filled_at = await fill(outside)
        caplog.clear()
        keys = ("/one", "/two")
        writing = [asyncio.ensure_future(writer.commit([absent(key)], [Put(key, b"1")])) for key in keys]
        done, _ = await asyncio.wait(writing, timeout=0.5)  # several tries of both
        assert not done
        (trouble,) = troubles(caplog)
        assert trouble["term"] == leadership.term.token
        assert "NOSPACE" in str(trouble["reason"])
        make_room(small_etcd, filled_at)
        await asyncio.gather(*writing)
        assert not troubles(caplog)
        await fill(outside)
        again = asyncio.ensure_future(writer.commit([absent("/three")], [Put("/three", b"1")]))
        await asyncio.wait([again], timeout=0.3)
        assert len(troubles(caplog)) == 1
        again.cancel()
        await asyncio.wait([again])


async def test_an_etcd_that_is_away_is_reported_once_to_each_time(
    etcd: EmbeddedEtcd, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(etcd.endpoint, namespace)
    async with (
        Cuttable(etcd.endpoint) as proxy,
        place.candidate(endpoint=proxy.endpoint) as (election, session, _),
    ):
        leadership = await election.campaign(session, b"")
        writer = FencedWriter(leadership)
        for key in ("/first", "/second"):
            place_key = f"/{namespace}{key}"
            await proxy.refuse()
            caplog.clear()
            writing = asyncio.ensure_future(writer.commit([absent(place_key)], [Put(place_key, b"")]))
            await asyncio.wait([writing], timeout=0.5)
            assert [trouble["term"] for trouble in troubles(caplog)] == [leadership.term.token]
            await proxy.accept()
            await writing


def test_a_trigger_that_a_full_store_refuses_exits_with_1_and_says_how_to_make_room(
    small_etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        keys = Keys(namespace)
        async with Etcd([small_etcd.endpoint]) as client:
            await client.put(keys.spec("j"), JobSpec(name="j", reference="m:f").to_bytes())
            await fill(client)

    run_with_streams(main())
    done = said(["trigger", "j", "--etcd", small_etcd.endpoint, "--namespace", namespace])
    assert (done.returncode, done.stdout) == (1, "")
    assert "etcdctl alarm disarm" in done.stderr
