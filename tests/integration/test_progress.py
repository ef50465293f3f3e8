"""Progress against a real etcd: who watches is told the last word, the end, and the death of the reporter."""

import asyncio
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import InvalidName, NotFound, SettingsError
from leaderjob.etcd import AmbiguousWrite, Etcd, ValueTooLarge
from leaderjob.recipes import (
    AlreadyReported,
    Progress,
    ProgressState,
    Report,
    ReporterLost,
    Session,
    SessionLost,
    UnreadableRecord,
)
from tests.support.candidates import TIMING
from tests.support.commands import Lines, environment, said
from tests.support.unanswered import Fate, Unanswered

Told = tuple[float, str, ProgressState]
RUNNING, ENDED, FAILED, LOST = ProgressState


def told(report: Report | None) -> Told:
    assert report is not None
    return report.percent, report.message, report.state


async def until(reports: AsyncGenerator[Report, None], wanted: Told) -> None:
    async with asyncio.timeout(10):
        async for report in reports:
            if told(report) == wanted:
                return
    raise AssertionError(f"{wanted} was not told")


async def test_watchers_are_told_each_step_and_the_end_and_late_comers_the_last_word(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import", namespace=namespace)
        assert await progress.latest() is None
        async with aclosing(progress.watch()) as early, aclosing(progress.watch()) as late:
            waiting = asyncio.create_task(until(early, (0, "", RUNNING)))
            async with progress.reporting(session) as reporter:
                await waiting
                reporter.set(40, "half of it")
                await until(early, (40, "half of it", RUNNING))
                assert told(await anext(late)) == (40, "half of it", RUNNING)
                reporter.set(99.5, "nearly")
            for reports in (early, late):
                await until(reports, (99.5, "nearly", ENDED))
                assert [report async for report in reports] == []
        assert [told(report) async for report in progress.watch()] == [(99.5, "nearly", ENDED)]
        assert await client.get(f"/leaderjob/{namespace}/reports/import/reporter") is None
        with pytest.raises(ReporterLost, match="has ended"):
            reporter.set(100)
        async with progress.reporting(session):  # and again
            assert told(await progress.latest()) == (0, "", RUNNING)


async def test_many_steps_are_few_writes_and_the_last_one_is_written(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "fast", namespace=namespace)
        async with aclosing(progress.watch()) as reports:
            began_at = time.monotonic()
            async with progress.reporting(session) as reporter:
                for step in range(3000):
                    reporter.set(step / 30)
                    await asyncio.sleep(0)
                await until(reports, (2999 / 30, "", RUNNING))
            took_s = time.monotonic() - began_at
        kv = await client.get(f"/leaderjob/{namespace}/reports/fast/latest")
        assert kv is not None
        assert kv.version <= 3 + took_s / 0.1


async def test_work_that_fails_is_told_as_such(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "broken", namespace=namespace)
        with pytest.raises(ZeroDivisionError):
            async with progress.reporting(session) as reporter:
                reporter.set(7, "dividing")
                _ = 1 / 0
        assert told(await progress.latest()) == (7, "dividing", FAILED)


async def test_the_death_of_a_reporter_is_told_to_watchers_and_to_late_comers(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import", namespace=namespace)
        async with aclosing(progress.watch()) as reports:
            with pytest.raises(ReporterLost):
                async with progress.reporting(session) as reporter:
                    reporter.set(30, "third")
                    await until(reports, (30, "third", RUNNING))
                    await client.revoke(session.lease_id)
                    await until(reports, (30, "third", LOST))
                    reporter.set(31)
        assert [told(report) async for report in progress.watch()] == [(30, "third", LOST)]
        with pytest.raises(SessionLost):
            async with progress.reporting(session):
                raise AssertionError("it has no lease")
        async with (
            await Session.open(client, TIMING) as another,
            progress.reporting(another),
        ):
            assert told(await progress.latest()) == (0, "", RUNNING)


async def test_one_at_a_time_reports(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with (
        Etcd([etcd.endpoint]) as client,
        await Session.open(client, TIMING) as session,
        await Session.open(client, TIMING) as another,
    ):
        progress = Progress(client, "import", namespace=namespace)
        async with progress.reporting(session):
            with pytest.raises(AlreadyReported):
                async with progress.reporting(another):
                    raise AssertionError("it is reported already")
            with pytest.raises(AlreadyReported):
                await progress.set(3)
        await progress.set(3)
        assert told(await progress.latest()) == (3, "", RUNNING)


async def test_who_has_lost_its_lease_does_not_write_over_its_successor(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with (
        Etcd([etcd.endpoint]) as client,
        await Session.open(client, TIMING) as session,
        await Session.open(client, TIMING) as another,
    ):
        progress = Progress(client, "import", namespace=namespace)
        with pytest.raises(ReporterLost):
            async with progress.reporting(session) as reporter:
                await client.delete(f"/leaderjob/{namespace}/reports/import/reporter")
                reporter.set(10)
                with pytest.raises(ReporterLost):
                    while True:
                        reporter.set(11)
                        await asyncio.sleep(0)
                assert told(await progress.latest()) == (0, "", LOST)
                async with progress.reporting(another) as successor:
                    successor.set(90)
        assert told(await progress.latest()) == (90, "", ENDED)


@pytest.mark.parametrize("fate", ["done", "later"])
async def test_reports_without_an_answer_are_settled(etcd: EmbeddedEtcd, namespace: str, fate: Fate) -> None:
    async with Unanswered([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import", namespace=namespace)
        client.fates = [fate]
        async with progress.reporting(session) as reporter, aclosing(progress.watch()) as reports:
            client.fates = [fate]
            reporter.set(50)
            await until(reports, (50, "", RUNNING))
            reporter.set(60)
            await until(reports, (60, "", RUNNING))
            client.fates = [fate]
        assert told(await progress.latest()) == (60, "", ENDED)
        client.fates = [fate]
        await progress.set(5)
        assert told(await progress.latest()) == (5, "", RUNNING)
        assert True not in await client.deliver_late()
        assert told(await progress.latest()) == (5, "", RUNNING)


async def test_who_is_cancelled_while_it_begins_leaves_no_reporter(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    class Slow(Etcd):
        asked = asyncio.Event()

        async def get(self, key: str, *, revision: int = 0, urgent: bool = False):  # type: ignore[no-untyped-def]
            self.asked.set()
            return await super().get(key, revision=revision, urgent=urgent)

    async with Slow([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import", namespace=namespace)
        beginning = asyncio.create_task(progress.reporting(session).__aenter__())
        await client.asked.wait()
        beginning.cancel()
        await asyncio.wait([beginning])
        assert beginning.cancelled()
        assert await client.get(f"/leaderjob/{namespace}/reports/import/reporter") is None
        session.check()
        async with progress.reporting(session):
            pass


@pytest.mark.parametrize("how", ["its end is refused", "cancelled once more"])
async def test_who_is_cancelled_while_it_begins_is_cancelled_and_leaves_no_reporter_whatever_fails(
    etcd: EmbeddedEtcd, namespace: str, how: str
) -> None:
    async with Unanswered([etcd.endpoint]) as client:
        progress = Progress(client, "import", namespace=namespace)
        async with await Session.open(client, TIMING) as session:

            async def cancel() -> None:
                """When the first report is written, and not answered."""
                beginning.cancel()
                if how == "cancelled once more":
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)  # until it waits for what it writes
                    beginning.cancel()
                    await asyncio.Event().wait()

            # The first report, the same once more, and the end.
            client.fates, client.meanwhile = ["done", "found no room", "found no room"], cancel
            beginning = asyncio.create_task(progress.reporting(session).__aenter__())
            await asyncio.wait([beginning], timeout=10)
            assert beginning.cancelled()
            assert session.is_lost
        assert told(await progress.latest()) == (0, "", LOST)


async def test_who_does_not_know_whether_it_reports_gives_its_lease_up(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AmbiguousWrite("nobody", "no answer")

    async with Etcd([etcd.endpoint]) as client:
        progress = Progress(client, "import", namespace=namespace)
        async with await Session.open(client, TIMING) as session:
            with pytest.raises(AmbiguousWrite):
                async with progress.reporting(session):
                    monkeypatch.setattr("leaderjob.recipes.reporter.until_answered", never)
            assert session.is_lost
        assert told(await progress.latest()) == (0, "", LOST)
        monkeypatch.setattr("leaderjob.recipes.progress.until_answered", never)
        async with await Session.open(client, TIMING) as session:
            with pytest.raises(AmbiguousWrite):
                async with progress.reporting(session):
                    raise AssertionError("it is not known")
            assert session.is_lost


async def test_bad_input_is_refused_and_foreign_values_are_left_alone(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        for name in ("", "a/b", "Upper"):
            with pytest.raises(InvalidName):
                Progress(client, name, namespace=namespace)
        progress = Progress(client, "odd", namespace=namespace)
        wrong: tuple[Any, ...] = (-1, 100.1, float("nan"), float("inf"), "half")
        for percent in wrong:
            with pytest.raises(SettingsError, match="0 to 100"):
                await progress.set(percent)
        assert await progress.latest() is None
        async with Progress(client, "sound", namespace=namespace).reporting(session) as reporter:
            reporter.set(Decimal(50), "half of it")
            with pytest.raises(SettingsError, match="half a character"):
                reporter.set(60, os.fsdecode(b"caf\xe9"))
            with pytest.raises(ValueTooLarge):
                reporter.set(60, "x" * 2_000_000)
        assert not session.is_lost
        last = await Progress(client, "sound", namespace=namespace).latest()
        assert last is not None
        assert (last.percent, last.message, last.state) == (50, "half of it", "ended")
        key = f"/leaderjob/{namespace}/reports/odd/latest"
        strange = b'{"v": 1, "percent": 3, "message": "", "state": "tired", "on_lease": false}'
        percents = [b"NaN", b"1e999", b"101", b"-1"]
        for value in (
            b"7 %",
            strange,
            *(strange.replace(b"3", each, 1).replace(b"tired", b"ended") for each in percents),
        ):
            await client.put(key, value)
            assert await progress.latest() is None
            with pytest.raises(UnreadableRecord, match="left as it is"):
                await progress.set(3)
            with pytest.raises(UnreadableRecord):
                async with progress.reporting(session):
                    raise AssertionError("there is no report")
            kv = await client.get(key)
            assert kv is not None
            assert kv.value == value


async def test_what_was_reported_can_be_removed_while_nobody_reports(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Etcd([etcd.endpoint]) as client, await Session.open(client, TIMING) as session:
        progress = Progress(client, "import", namespace=namespace)
        async with progress.reporting(session):
            with pytest.raises(AlreadyReported):
                await progress.remove()
        await progress.remove()
        assert await progress.latest() is None
        assert not (await client.range(f"/leaderjob/{namespace}/reports/")).kvs
        with pytest.raises(NotFound, match="nothing to remove"):
            await progress.remove()
        await client.put(f"/leaderjob/{namespace}/reports/import/latest", b"no report")
        await progress.remove()
        await progress.set(5)
        assert told(await progress.latest()) == (5, "", RUNNING)


def test_the_commands_report_and_watch(etcd: EmbeddedEtcd, namespace: str) -> None:
    where = ["--etcd", etcd.endpoint, "--namespace", namespace]
    assert said(["progress", "set", *where, "import", "30", "--message", "third"]).returncode == 0
    assert said(["progress", "set", *where, "import", "101"]).returncode == 2
    command = [sys.executable, "-m", "leaderjob", "progress", "watch", *where, "import"]
    shown, terminal = pty.openpty()
    with (
        Lines(*command) as lines,
        subprocess.Popen(command, env=environment(), stdout=terminal) as live,
    ):
        try:
            assert lines.until(lambda line: True) == "30 %  third"
            assert select.select([shown], [], [], 15)[0]
            on_screen = os.read(shown, 1000)
            assert on_screen.startswith(b"\r\x1b[2K[#########  ")
            assert b"\n" not in on_screen
            assert said(["progress", "set", *where, "import", "100"]).returncode == 0
            assert lines.until(lambda line: "100" in line) == "100 %  ended"
            assert (lines.wait(15), live.wait(15)) == (0, 0)
        finally:
            live.kill()
            os.close(terminal)
            os.close(shown)
    ended = said(["progress", "watch", *where, "import", "--json"])
    assert said(["progress", "remove", *where, "import"]).returncode == 0
    assert said(["progress", "remove", *where, "import"]).returncode == 4
    assert (ended.returncode, ended.stdout) == (0, '{"percent": 100.0, "message": "", "state": "ended"}\n')
