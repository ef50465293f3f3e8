"""Whoever waits for etcd is told when it goes away, once, and when it is back; and misses nothing."""

import asyncio
import json
import re
import sys
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from leaderjob.client import Client
from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, EtcdUnavailable
from leaderjob.model.member import Candidate
from leaderjob.records.keys import Keys
from tests.support.commands import Lines
from tests.support.loop import run_async
from tests.support.replicas import SHORT_TTL_S, Cluster, wait_for
from tests.support.streams import run_with_streams


@pytest.mark.parametrize("how", ["killed", pytest.param("stopped", marks=pytest.mark.slow)])
async def test_an_outage_is_one_error_and_its_end_is_told(own_etcd: EmbeddedEtcd, how: str) -> None:
    async with (
        Client([own_etcd.endpoint]) as client,
        aclosing(client.outages(every_s=0.05)) as changes,
    ):
        for _ in range(2):
            own_etcd.kill() if how == "killed" else own_etcd.pause()
            error = await anext(changes)
            assert isinstance(error, EtcdUnavailable)
            assert error.endpoints == (own_etcd.endpoint,)
            # It is looked for again and again before it is there: that is no news.
            back = asyncio.ensure_future(anext(changes))
            if how == "killed":
                await own_etcd.start()
            else:
                own_etcd.resume()
            assert await back is None


def waiting(errors: Path, *arguments: str) -> Lines:
    """``leaderjob ARGUMENTS``, with what it says to stderr in a file."""
    command = ["sh", "-c", 'exec "$0" "$@" 2>"$ERRORS"', sys.executable, "-m", "leaderjob", *arguments]
    return Lines("env", f"ERRORS={errors}", *command)


def told(errors: Path, count: int, *, timeout_s: float = 20.0) -> list[str]:
    """What was said, once it is so many lines."""
    give_up_at = time.monotonic() + timeout_s
    while not errors.exists() or errors.read_text().count("\n") < count:
        assert time.monotonic() < give_up_at, f"no {count} lines came"
        time.sleep(0.01)
    return errors.read_text().splitlines()


def test_watch_says_that_etcd_is_gone_and_back_and_goes_on(own_etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    key = f"{Keys('outage').election}1"

    async def write(value: bytes | None) -> None:
        async with Etcd([own_etcd.endpoint]) as client:
            await client.delete(key) if value is None else await client.put(key, value)

    errors = tmp_path / "errors"
    now = utcnow()
    leader = Candidate(replica="r1", incarnation="1", addresses={}, since=now, leading_since=now)
    run_with_streams(write(leader.to_bytes()))
    with waiting(errors, "watch", "--json", "--etcd", own_etcd.endpoint, "--namespace", "outage") as watch:
        watch.until(lambda line: json.loads(line)["event"] == "leader_elected")
        own_etcd.kill()
        told(errors, 1)
        run_async(own_etcd.start())
        told(errors, 2)
        run_with_streams(write(None))
        watch.until(lambda line: json.loads(line)["event"] == "leader_lost")
    lost, back = errors.read_text().splitlines()
    assert lost == f"etcd does not answer at {own_etcd.endpoint}: connection refused; waiting for it"
    assert re.fullmatch(r"etcd answers again, after \S+s", back)


def test_whoever_waits_for_a_run_is_told_and_gets_its_end(own_etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    errors, effects, gate = tmp_path / "errors", tmp_path / "effects", tmp_path / "gate"
    params = json.dumps({"effects": str(effects), "gate": str(gate)})
    with Cluster(
        own_etcd.endpoint,
        "outage",
        tmp_path / "replicas",
        jobs="tests.support.jobs.witnessed",
        names=("r1",),
        ttl_s=SHORT_TTL_S,
        config='[overrides.ticks]\nschedule = ""\n',
    ) as cluster:
        cluster.start()
        command = ["trigger", "gated", "--wait", "--json", "--params", params, *cluster.target]
        with waiting(errors, *command) as trigger:
            wait_for(effects)
            own_etcd.kill()
            told(errors, 2)  # the run's id, and the outage
            run_async(own_etcd.start())
            gate.touch()
            ended = json.loads(trigger.until(lambda line: True, timeout_s=30.0))
            assert trigger.wait(10.0) == 0
    assert (ended["job"], ended["outcome"]) == ("gated", "succeeded")
    assert "etcd does not answer" in errors.read_text()
