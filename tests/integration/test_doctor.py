"""The doctor looks at everything that a replica needs, says what to do, and changes nothing."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from tests.support.commands import leaderjob
from tests.support.etcd import every_release
from tests.support.loop import run_async
from tests.support.secure_etcd import SecureEtcd
from tests.support.streams import run_with_streams

_JOBS = "tests.support.jobs.results"


def examined(*arguments: str, cwd: Path, **more: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit code, and by subject the verdict and what was found."""
    done = leaderjob("doctor", "--json", *arguments, cwd=cwd, **more)
    assert "Traceback" not in done.stderr
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {entry["subject"]: (entry["verdict"], entry["found"]) for entry in found}


def revision(etcd: EmbeddedEtcd) -> int:
    async def read() -> int:
        async with Etcd([etcd.endpoint]) as client:
            return (await client.range("/nothing")).revision

    return run_with_streams(read())


@every_release("own_etcd")
def test_where_all_is_well_it_says_so_and_leaves_no_trace(own_etcd: EmbeddedEtcd, tmp_path: Path) -> None:
    before, state = revision(own_etcd), tmp_path / "state"
    code, found = examined(
        "--etcd", own_etcd.endpoint, "--jobs", _JOBS, "--state-dir", str(state), cwd=tmp_path
    )
    assert code == 0
    # Of releases that lose data, it warns.
    release = found.pop(f"etcd at {own_etcd.endpoint}")
    assert [one for one in found.items() if one[1][0] != "ok"] == []
    assert found["jobs"] == ("ok", "value, files")
    assert found["permissions"] == ("ok", "may read and write below /leaderjob/default/")
    assert found[f"clock against {own_etcd.endpoint}"] == ("ok", "less than 2 s apart")
    assert "database" in release[1]
    assert revision(own_etcd) == before
    assert not state.exists()


def test_what_is_in_the_way_is_named_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, found = examined(
        *("--etcd", "127.0.0.1:1", "--jobs", "tests.support.jobs.nothing", "--listen", "0.0.0.0:7001"),
        *("--state-dir", str(tmp_path / "file" / "state")),
        cwd=tmp_path,
    )
    assert code == 1
    problems = {subject for subject, (verdict, _) in found.items() if verdict == "problem"}
    assert problems == {"etcd", "state directory", "ports", "jobs of tests.support.jobs.nothing"}
    assert "connection refused" in found["etcd"][1]


def test_a_port_in_use_is_a_warning_because_it_may_be_the_replica_itself(
    etcd: EmbeddedEtcd, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, found = examined(
            *("--etcd", etcd.endpoint, "--jobs", _JOBS, "--listen", address),
            *("--state-dir", str(tmp_path / "state")),
            cwd=tmp_path,
        )
    assert (code, found["port for queries"]) == (0, ("warning", f"{address} is in use"))


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[SecureEtcd]:
    server = SecureEtcd(tmp_path / "etcd")
    run_async(server.start())
    try:
        server.enable_users()
        server.add_user("reader", "password", ("read", "/leaderjob/default/"))
        yield server
    finally:
        server.kill()


def test_a_permission_that_lacks_is_found_without_a_write(asking: SecureEtcd, tmp_path: Path) -> None:
    code, found = examined(
        *("--etcd", asking.endpoint, "--jobs", _JOBS, "--state-dir", str(tmp_path / "state")),
        cwd=tmp_path,
        LEADERJOB_ETCD_USERNAME="reader",
        LEADERJOB_ETCD_PASSWORD="password",
    )
    assert code == 1
    assert found["permissions"][0] == "problem"
    assert "may not" in found["permissions"][1]
    assert "write /leaderjob/default/ and what is below" in found["permissions"][1]
