"""The store goes back: restored from a backup or wiped, it is not led on until an operator accepts it.

Each test has a version published that the backup does not know. Where nobody noticed, the next build would
be given a fencing token that was given before.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.client import ask
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.model.query import Query
from tests.support.backups import Backup, wipe
from tests.support.loop import run_async
from tests.support.replicas import SHORT_TTL_S, Cluster, Replica, told, wait_for_line
from tests.support.streams import run_with_streams


@pytest.fixture
def two(own_etcd: EmbeddedEtcd, tmp_path: Path) -> Iterator[Cluster]:
    """Two replicas with an etcd of their own, started."""
    with (
        Cluster(
            own_etcd.endpoint,
            "restored",
            tmp_path / "replicas",
            jobs="tests.support.jobs.results",
            names=("r1", "r2"),
            ttl_s=SHORT_TTL_S,
        ) as cluster,
        told(cluster),
    ):
        yield cluster.start()


@pytest.fixture
def backup(own_etcd: EmbeddedEtcd, two: Cluster, tmp_path: Path) -> Backup:
    """Taken when version 1 was out and served; version 2 has been published since."""
    build(two, "first")
    taken = Backup(own_etcd, tmp_path / "backup")
    run_async(taken.take())
    build(two, "second")
    return taken


def build(cluster: Cluster, text: str) -> int:
    """Publish a version that everybody serves; returns its fencing token."""
    run = cluster.ended("files", cluster.trigger("files", text=text))
    view = cluster.serves("files", run.version or 0)
    pointer = view.pointer("files")
    assert pointer is not None
    return pointer.record.token


def refuses(replica: Replica) -> None:
    """Return once the replica has said that it does not stand for election."""
    wait_for_line(replica, "store_went_back", timeout_s=20.0)


def nobody_leads(cluster: Cluster) -> None:
    """The candidates that the backup knew are on leases that nobody keeps alive."""
    view = cluster.until("nobody is a candidate", lambda view: not view.candidates)
    history = view.history()
    assert history is not None
    assert history.record.suspicion is not None


def stop(cluster: Cluster) -> None:
    for replica in cluster.replicas.values():
        replica.kill()


def accepted_floor(cluster: Cluster) -> int:
    said = cluster.cli("accept-restore", "--json")
    assert said.returncode == 0, said.stderr
    floor: int = json.loads(said.stdout)["token_floor"]
    return floor


def leads_again(cluster: Cluster, *, above: int) -> None:
    """After it was accepted, all goes on: with a token above all earlier ones."""
    floor = accepted_floor(cluster)
    assert floor > above
    cluster.until("a leader has announced its jobs", lambda view: "files" in view.specs)
    assert build(cluster, "third") > floor


def test_a_store_restored_under_running_replicas_is_not_led_on_until_it_is_accepted(
    two: Cluster, backup: Backup
) -> None:
    token = token_of_current(two)
    run_async(backup.restore())
    for replica in two.replicas.values():
        refuses(replica)
    nobody_leads(two)
    addresses = [stored.record.addresses["grpc"] for stored in two.view().members.values()]
    for address in addresses:
        answer = run_with_streams(ask(address, Query(job="files", fields={"number": 0}), 5.0))
        assert answer.version == 2
    leads_again(two, above=token)


def test_a_store_restored_while_all_replicas_were_stopped_is_not_led_on_until_it_is_accepted(
    two: Cluster, backup: Backup
) -> None:
    token = token_of_current(two)
    stop(two)
    run_async(backup.restore())
    for replica in two.replicas.values():
        forget_log(replica)
        replica.start()
    for replica in two.replicas.values():
        refuses(replica)
    nobody_leads(two)
    leads_again(two, above=token)


@pytest.mark.long
def test_writes_of_others_may_have_brought_the_revision_up_again(two: Cluster, backup: Backup) -> None:
    token = token_of_current(two)
    stop(two)
    run_async(backup.restore())
    for _ in range(200):
        two.put("/somebody/else", b"x")
    for replica in two.replicas.values():
        forget_log(replica)
        replica.start()
    for replica in two.replicas.values():
        refuses(replica)
    nobody_leads(two)
    leads_again(two, above=token)


@pytest.mark.long
def test_who_knows_nothing_of_the_old_store_does_not_lead_either(two: Cluster, backup: Backup) -> None:
    stop(two)
    run_async(backup.restore())
    knowing, ignorant = two["r1"], two["r2"]
    shutil.rmtree(ignorant.state_dir)
    for replica in (knowing, ignorant):
        forget_log(replica)
    knowing.start()
    refuses(knowing)
    ignorant.start()
    refuses(ignorant)
    nobody_leads(two)


def test_a_store_that_was_wiped_is_not_led_on_until_it_is_accepted(
    two: Cluster, own_etcd: EmbeddedEtcd
) -> None:
    token = build(two, "first")
    stop(two)
    run_async(wipe(own_etcd))
    for replica in two.replicas.values():
        forget_log(replica)
        replica.start()
    for replica in two.replicas.values():
        refuses(replica)
    assert "accept-restore" in two["r1"].log()
    leads_again(two, above=token)


@pytest.mark.long
def test_a_replica_of_another_store_says_what_to_do(two: Cluster, own_etcd: EmbeddedEtcd) -> None:
    build(two, "first")
    stop(two)
    run_async(wipe(own_etcd))
    newcomer, old = two["r1"], two["r2"]
    shutil.rmtree(newcomer.state_dir)
    newcomer.start()
    two.leader()
    forget_log(old)
    old.start()
    refuses(old)
    kept = re.search(r"remove (\S+),", old.log())
    assert kept is not None
    old.terminate()
    Path(kept.group(1)).unlink()
    two.start("r2")


def test_there_is_nothing_to_accept_where_nobody_doubts(two: Cluster) -> None:
    said = two.cli("accept-restore")
    assert said.returncode == 1
    assert "nothing to accept" in said.stderr


def token_of_current(cluster: Cluster) -> int:
    pointer = cluster.view().pointer("files")
    assert pointer is not None
    return pointer.record.token


def forget_log(replica: Replica) -> None:
    replica.log_path.unlink()
