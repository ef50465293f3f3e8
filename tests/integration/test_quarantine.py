"""Moving aside what cannot be read, while more of it comes at the worst moment."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.engine.quarantine import move_corrupt_records_aside
from leaderjob.model.artifact import Version
from leaderjob.records.view import View
from tests.support.office import Seat, going_on, seated
from tests.support.streams import run_with_streams


@pytest.fixture
def in_office(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> Callable[..., None]:
    def run(scenario: Callable[[Seat], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with seated(etcd.endpoint, namespace, tmp_path) as seat:
                await scenario(seat)

        run_with_streams(main(), timeout_s=10)

    return run


def moved(seat: Seat, key: str, value: bytes) -> Callable[[], Coroutine[Any, Any, None]]:
    async def check() -> None:
        found = await seat.outside.get(seat.keys.quarantine(key))
        assert found is not None
        assert found.value == value
        assert await seat.outside.get(key) is None

    return check


def test_a_value_that_is_spoilt_while_another_is_moved_aside_is_moved_too(
    in_office: Callable[..., None],
) -> None:
    async def scenario(seat: Seat) -> None:
        first, second = seat.keys.command("first"), seat.keys.command("second")

        async def spoil_the_second() -> None:
            """Nothing else changes after it, so that nothing else can wake whoever missed it."""
            await seat.outside.put(second, b"spoilt")
            await seat.feed.until(lambda view: set(view.quarantined) == {second})

        seat.writer.after = spoil_the_second
        await seat.outside.put(first, b"spoilt")
        async with going_on(move_corrupt_records_aside(seat.office, {})):
            await seat.feed.until(lambda view: not view.quarantined and seat.writer.writes == 2)
        await moved(seat, first, b"spoilt")()
        await moved(seat, second, b"spoilt")()

    in_office(scenario)


def test_a_value_that_changed_while_it_was_moved_aside_is_looked_at_again_and_no_oftener(
    in_office: Callable[..., None],
) -> None:
    async def scenario(seat: Seat) -> None:
        key = seat.keys.command("x")

        async def spoil_it_otherwise() -> None:
            revision = await seat.outside.put(key, b"spoilt otherwise")
            await seat.feed.until(lambda view: view.revision >= revision)

        seat.writer.before = spoil_it_otherwise
        await seat.outside.put(key, b"spoilt")
        async with going_on(move_corrupt_records_aside(seat.office, {})):
            await seat.feed.until(lambda view: seat.writer.writes > 0 and not view.quarantined)
            # What the view showed before its own write came back was no reason to write again.
            await _quiet(seat)
        assert seat.writer.writes == 2
        await moved(seat, key, b"spoilt otherwise")()

    in_office(scenario)


async def _quiet(seat: Seat) -> None:
    """Return when the feed has shown a change that concerns nobody."""
    revision = await seat.outside.put(f"{seat.keys.root}sign", b"")

    def shown(view: View) -> bool:
        return view.revision >= revision

    await seat.feed.until(shown)


async def test_what_belongs_to_a_job_that_waits_for_a_newer_release_is_repaired_when_that_can_be_read(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    async with seated(etcd.endpoint, namespace, tmp_path) as seat:
        keys = seat.keys
        held, other, newer = keys.pointer("j"), keys.pointer("k"), keys.numbers("j")
        version = Version(
            version=1,
            sequence=1,
            run="r",
            token=1,
            digest="blake3:" + "0" * 64,
            manifest_bytes=1,
            size_bytes=1,
            file_count=1,
            published=utcnow(),
        )
        values = {
            newer: b'{"v":99}',
            keys.version("j", 1): version.to_bytes(),
            held: b"spoilt",
            other: b"spoilt",
        }
        for key, value in values.items():
            revision = await seat.outside.put(key, value)
        await seat.feed.until(lambda view: view.revision >= revision)
        async with going_on(move_corrupt_records_aside(seat.office, {})):
            await seat.feed.until(lambda view: set(view.quarantined) == {held})
            await moved(seat, other, b"spoilt")()
            assert (await seat.outside.get(keys.quarantine(held))) is None
            await seat.outside.delete(newer)
            view = await seat.feed.until(lambda view: not view.quarantined)
        assert view.pointer("j") is not None
