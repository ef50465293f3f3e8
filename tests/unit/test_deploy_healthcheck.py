"""What the container's HEALTHCHECK makes of the answers that a replica may give."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from leaderjob.embedded.ports import free_ports
from leaderjob.results.httpd import Reply, Request, plain
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.tls import CertificateFiles
from tests.support.authority import Authority

_SCRIPT = Path(__file__).parents[2] / "deploy" / "healthcheck.py"

Serve = Callable[[HTTPStatus, CertificateFiles | None], int]


@pytest.fixture
def serve(leader: Store) -> Iterator[Serve]:
    """Start a server that gives ``/healthz`` this answer; returns its port."""
    servers = []

    def start(status: HTTPStatus, certificates: CertificateFiles | None) -> int:
        def healthz(request: Request) -> Reply:
            return plain(status, "what it says")

        server = BlobServer(leader, "127.0.0.1", 0, certificates=certificates)
        server.add_route("/healthz", healthz)
        servers.append(server)
        return server.start()[1]

    yield start
    for server in servers:
        server.close()


def check(port: int, **more: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    done = subprocess.run(
        [sys.executable, str(_SCRIPT)],
        env={"PATH": os.environ["PATH"], "LEADERJOB_REPLICA_LISTEN_HTTP": f"0.0.0.0:{port}"} | more,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize(("status", "code"), [(HTTPStatus.OK, 0), (HTTPStatus.SERVICE_UNAVAILABLE, 1)])
def test_a_replica_is_as_healthy_as_it_says(serve: Serve, status: HTTPStatus, code: int) -> None:
    assert check(serve(status, None)) == (code, "what it says\n")


def test_a_replica_whose_ports_are_encrypted_is_asked_over_tls(serve: Serve, tmp_path: Path) -> None:
    certificates = Authority(tmp_path).issue("replica", "replica-1.example.com")
    port = serve(HTTPStatus.OK, certificates)
    assert check(port, LEADERJOB_TLS_CERT=str(certificates.cert)) == (0, "what it says\n")
    assert check(port)[0] == 1


def test_a_replica_that_does_not_answer_is_not_healthy() -> None:
    (port,) = free_ports(1)
    code, said = check(port)
    assert code == 1
    assert said.startswith("no answer from /healthz: ConnectionRefusedError")
