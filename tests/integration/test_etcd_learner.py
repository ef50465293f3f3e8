"""A member that only learns answers hardly anything: clients that know its address use the others."""

from contextlib import aclosing
from pathlib import Path

import pytest

from leaderjob.etcd import Etcd, EtcdUnavailable
from leaderjob.etcd.maintenance import check_health
from leaderjob.etcd.watch import follow
from tests.faults.harness import every_release, members
from tests.support.etcd import line_of


@every_release
async def test_calls_watches_and_keepalives_pass_over_a_learner(tmp_path: Path, binary: Path) -> None:
    async with members(tmp_path, count=1, spares=1, binary=binary, network="proxies") as etcd:
        learner, (voter,) = await etcd.learner(), etcd.every
        there = [learner.endpoint, voter.endpoint]
        async with Etcd(there) as client, Etcd(there) as holder:
            revision = await client.put("/key", b"1")
            lease_id, ttl_s = await holder.grant(10)
            assert await holder.keep_alive(lease_id, timeout_s=5.0) == ttl_s
        async with Etcd(there) as client, aclosing(follow(client, "/")) as batches:
            first = await anext(batches)
            assert [(event.key, event.now.mod_revision) for event in first.events if event.now] == [
                ("/key", revision)
            ]
        async with Etcd([learner.endpoint], call_timeout_s=1.0) as client:
            with pytest.raises(EtcdUnavailable, match="it is a learner"):
                await client.get("/key")
        health = await check_health(Etcd, there)
        assert {status.endpoint: status.version for status in health.endpoints} == dict.fromkeys(
            there, health.endpoints[0].version
        )
        assert line_of(binary) in health.endpoints[0].version
