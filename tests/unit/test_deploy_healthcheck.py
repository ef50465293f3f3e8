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


def check(port: int | None, *arguments: str, cwd: Path | None = None) -> tuple[int, str]:
    """The exit code, and what was printed. :param port: is in a variable; None: there is no such variable."""
    variables = {} if port is None else {"LEADERJOB_REPLICA_LISTEN_HTTP": f"0.0.0.0:{port}"}
    done = subprocess.run(
        [sys.executable, str(_SCRIPT), *arguments],
        env={"PATH": os.environ["PATH"]} | variables,
        cwd=cwd,
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
    assert check(serve(HTTPStatus.OK, certificates)) == (0, "what it says\n")


@pytest.mark.parametrize("named", [True, False])
def test_the_port_is_found_in_the_settings_file_and_variables_come_first(
    serve: Serve, tmp_path: Path, named: bool
) -> None:
    port, (nobody,) = serve(HTTPStatus.OK, None), free_ports(1)
    file = tmp_path / ("mounted.toml" if named else "leaderjob.toml")
    file.write_text(f'[replica]\nlisten_http = "0.0.0.0:{port}"\n')
    arguments = [str(file)] if named else []
    assert check(None, *arguments, cwd=tmp_path) == (0, "what it says\n")
    file.write_text(f'[replica]\nlisten_http = "0.0.0.0:{nobody}"\n')
    assert check(None, *arguments, cwd=tmp_path)[0] == 1
    assert check(port, *arguments, cwd=tmp_path)[0] == 0


def test_where_no_port_is_set_that_is_told(tmp_path: Path) -> None:
    code, said = check(None, cwd=tmp_path)
    assert (code, "leaderjob.toml" in said) == (1, True)


def test_a_replica_that_does_not_answer_is_not_healthy() -> None:
    (port,) = free_ports(1)
    code, said = check(port)
    assert code == 1
    assert said.startswith("no answer from /healthz: ConnectionRefusedError")
