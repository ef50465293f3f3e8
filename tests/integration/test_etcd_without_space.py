"""etcd is full, or does not answer for a while: who leads keeps office as long as it is trusted, admits nothing,
says so, and goes on when that is over."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, NoSpace
from leaderjob.model.run import Outcome, State
from leaderjob.records.view import View
from tests.support.commands import said
from tests.support.etcd import each_release, etcdctl
from tests.support.replicas import SHORT_TTL_S, Cluster, leads, told, wait_for, wait_for_line, witnessed
from tests.support.streams import run_with_streams

_JOBS = "tests.support.jobs.witnessed"
_QUOTA_BYTES = 2 * 1024**2


@pytest.fixture(params=each_release())
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedEtcd]:
    """An etcd with room for little."""
    server = EmbeddedEtcd(tmp_path / "etcd", binary=request.param, fsync=False, quota_bytes=_QUOTA_BYTES)
    asyncio.run(server.start())
    try:
        yield server
    finally:
        server.kill()


def ticking(server: EmbeddedEtcd, directory: Path, effects: Path, ttl_s: int) -> Cluster:
    """Two replicas, and a job that is due each second."""
    config = f'[overrides.ticks]\nschedule = "every 1s"\nparams = {{effects = "{effects}"}}\n'
    return Cluster(
        server.endpoint, "full", directory, jobs=_JOBS, names=("r1", "r2"), ttl_s=ttl_s, config=config
    )


def fill(server: EmbeddedEtcd) -> None:
    async def put() -> None:
        async with Etcd([server.endpoint]) as client:
            with pytest.raises(NoSpace):
                for number in range(1000):
                    await client.put(f"/filler/{number}", b"x" * 100_000)

    run_with_streams(put())


def make_space(server: EmbeddedEtcd) -> None:
    """As the sentence says that tells of it."""
    etcdctl(server.endpoint, "del", "--prefix", "/filler/")

    async def revision() -> int:
        async with Etcd([server.endpoint]) as client:
            return (await client.range("/filler/")).revision

    etcdctl(server.endpoint, "compact", "--physical", str(run_with_streams(revision())))
    etcdctl(server.endpoint, "defrag")
    etcdctl(server.endpoint, "alarm", "disarm")


def unfinished(view: View) -> list[str]:
    return [stored.record.id for stored in view.unfinished_runs("ticks")]


def test_without_space_the_leader_stays_and_begins_nothing_until_there_is_some(
    small: EmbeddedEtcd, tmp_path: Path
) -> None:
    effects, gated, gate = tmp_path / "effects", tmp_path / "gated", tmp_path / "gate"
    with ticking(small, tmp_path / "r", effects, SHORT_TTL_S) as two, told(two.start()):
        run = two.trigger("gated", effects=str(gated), gate=str(gate))
        wait_for(gated)
        wait_for(effects)
        leader, token = two.leader(), two.status()["leader"]["token"]
        fill(small)
        wait_for_line(leader, "etcd_full")
        begun = two.view().runs("ticks")[-1].record
        gate.touch()
        done = said(["trigger", "obedient", *two.target])
        assert (done.returncode, "NOSPACE" in done.stderr) == (1, True)
        full_since, lines = time.monotonic(), len(witnessed(effects))
        while time.monotonic() < full_since + SHORT_TTL_S + 1.0:
            view = two.view()
            assert leads(view) == leader.name
            assert view.runs("ticks")[-1].record.id == begun.id, "it was admitted without space"
            assert len(witnessed(effects)) <= lines + 1, "a worker was started without space"
        assert leader.log().count("etcd_full") == 1
        assert "etcdctl alarm disarm" in leader.log()
        lines = len(witnessed(effects))
        make_space(small)
        wait_for_line(leader, "etcd_has_space")
        assert [attempt.outcome for attempt in two.ended("gated", run).attempts] == [Outcome.SUCCEEDED]
        two.until("it ticks on", lambda view: view.runs("ticks")[-1].record.created > begun.created)
        two.until("nothing is half done", lambda view: len(unfinished(view)) <= 1)
        assert two.status()["leader"]["token"] == token


def test_an_etcd_that_is_silent_for_less_than_the_trust_costs_nobody_office_and_no_fire_is_half_admitted(
    own_etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with ticking(own_etcd, tmp_path / "r", effects, 10) as two, told(two.start()):
        wait_for(effects)
        leader, token = two.leader(), two.status()["leader"]["token"]
        own_etcd.pause()
        wait_for_line(leader, "connection_trouble")
        lines = len(witnessed(effects))
        wait_for_line(leader, "trust_at_risk")
        assert len(witnessed(effects)) <= lines + 1, "a worker was started that no record tells of"
        own_etcd.resume()
        wait_for_line(leader, "trust_restored")
        count = len(two.view().runs("ticks"))
        began = {line["run"] for line in witnessed(effects)}

        def goes_on(view: View) -> bool:
            ended = [stored.record.state is State.DONE for stored in view.runs("ticks")]
            return len(ended) > count + 2 and all(ended[: count + 1])

        view = two.until("what was under way has ended, and it ticks on", goes_on)
        assert two.status()["leader"]["token"] == token
        assert "term_ended" not in leader.log()
        assert began <= {stored.record.id for stored in view.runs("ticks") if stored.record.attempts}
