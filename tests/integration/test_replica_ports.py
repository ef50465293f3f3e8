"""A replica's open ports: which they are, and that strangers who hold them do no harm."""

import http.client
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.model.run import Outcome
from tests.support.commands import leaderjob
from tests.support.replicas import Cluster, told

_RESULTS = "tests.support.jobs.results"


def connect(stack: ExitStack, address: str) -> None:
    """And say nothing. Who is sent away at once has connected, too."""
    host, _, port = address.rpartition(":")
    stack.enter_context(socket.create_connection((host, int(port)), timeout=5))


def test_strangers_who_hold_connections_keep_a_replica_neither_from_work_nor_from_a_quiet_end(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with (
        Cluster(etcd.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",)) as one,
        told(one),
        ExitStack() as strangers,
    ):
        replica = one.start().leader()
        resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        addresses = one.view().members["r1"].record.addresses
        for _ in range(260):
            connect(strangers, addresses["liveness"])
        for _ in range(260):
            connect(strangers, addresses["http"])
        began = time.monotonic()
        probe = http.client.HTTPConnection(addresses["http"], timeout=5)
        probe.request("GET", "/healthz")
        response = probe.getresponse()
        assert (response.status, response.read()) == (200, b"alive\n")
        assert time.monotonic() - began < 2.0, "before anybody had been idle for too long"
        probe.close()
        assert one.ended("value", one.trigger("value", value=1)).outcome is Outcome.SUCCEEDED
        assert replica.terminate() == 0
        for trouble in ("Traceback", "cannot_accept", "Too many open files", "out of system resource"):
            assert trouble not in replica.log()


def test_the_liveness_port_is_the_one_that_is_set(etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    config = f"[replica]\nliveness_port = {port}\n"
    with Cluster(etcd.endpoint, namespace, tmp_path, jobs=_RESULTS, names=("r1",), config=config) as one:
        addresses = one.start().view().members["r1"].record.addresses
        assert addresses["liveness"] == f"127.0.0.1:{port}"
        assert one.leader().terminate() == 0


def test_a_liveness_port_in_use_is_an_error_that_names_the_setting(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = leaderjob(
            *("run", "--id", "r1", "--etcd", etcd.endpoint, "--namespace", namespace, "--jobs", _RESULTS),
            *("--state-dir", str(tmp_path / "state")),
            cwd=tmp_path,
            LEADERJOB_REPLICA_LIVENESS_PORT=str(port),
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"setting 'replica.liveness_port': cannot listen on port {port} of 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_liveness_port_that_is_none_is_refused(tmp_path: Path) -> None:
    for wrong in ("65536", "-1", "any"):
        done = leaderjob("run", "--etcd", "a:1", cwd=tmp_path, LEADERJOB_REPLICA_LIVENESS_PORT=wrong)
        assert done.returncode == 2
        assert "setting 'replica.liveness_port'" in done.stderr
