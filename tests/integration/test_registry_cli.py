"""``leaderjob service``: what it registers, prints, and exits with."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.etcd import Etcd
from leaderjob.recipes import Registry
from tests.support.backups import wipe
from tests.support.commands import Lines, said
from tests.support.etcd import etcdctl
from tests.support.streams import run_with_streams
from tests.support.undying import stops, undying

HERE = "127.0.0.1:7001"


def service(etcd: EmbeddedEtcd, namespace: str, *arguments: str) -> list[str]:
    command, *others = arguments
    return ["service", command, "--etcd", etcd.endpoint, "--namespace", namespace, *others]


def process(arguments: list[str]) -> Lines:
    return Lines(sys.executable, "-m", "leaderjob", *arguments)


def until_gone(etcd: EmbeddedEtcd, namespace: str) -> None:
    async def main() -> None:
        async with (
            Etcd([etcd.endpoint]) as client,
            Registry(client, namespace=namespace).following("greeter") as followed,
        ):
            instances = followed.instances
            while instances:
                instances = await followed.changed(instances)

    run_with_streams(main(), timeout_s=5)


def test_an_instance_is_registered_while_its_command_runs_and_the_exit_code_is_the_commands(
    etcd: EmbeddedEtcd, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wait = "import sys; print('up', flush=True); sys.stdin.read(); sys.exit(7)"
    fifo = tmp_path_factory.mktemp("fifo") / "stdin"
    os.mkfifo(fifo)
    shell = f'exec {sys.executable} -c "{wait}" < {fifo}'
    command = ["--metadata", "zone=b", "greeter", HERE, "--", "sh", "-c", shell]
    with (
        process(service(etcd, namespace, "watch", "greeter")) as watching,
        process(service(etcd, namespace, "register", *command)) as registered,
    ):
        with fifo.open("w"):
            registered.until(lambda line: line == "up")
            assert watching.until(lambda line: HERE in line).endswith(f"joined  {HERE} zone=b")
            listed = said(service(etcd, namespace, "list", "--json"))
            (instance,) = json.loads(listed.stdout)
            assert instance["service"] == "greeter"
            assert (instance["address"], instance["metadata"]) == (HERE, {"zone": "b"})
            assert HERE in said(service(etcd, namespace, "list", "greeter")).stdout
        assert registered.wait(10) == 7
        assert watching.until(lambda line: "left" in line).endswith(f"left    {HERE} zone=b")
    none = said(service(etcd, namespace, "list", "greeter"))
    assert (none.returncode, none.stdout) == (4, "")
    assert said(service(etcd, namespace, "list", "--json")).stdout == "[]\n"


def test_asked_to_stop_it_is_unregistered_before_its_command_is_stopped(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('stopping', flush=True), signal.pause(), sys.exit(3)))\n"
        "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
        "import os; print('up', os.getpid(), flush=True)\n"
        "while True: signal.pause()"
    )
    arguments = service(etcd, namespace, "register", "greeter", HERE, "--", sys.executable, "-c", code)
    with process(arguments) as registered:
        command = int(registered.until(lambda line: line.startswith("up")).split()[1])
        os.kill(registered.pid, signal.SIGTERM)
        registered.until(lambda line: line == "stopping")
        assert said(service(etcd, namespace, "list", "greeter")).returncode == 4
        os.kill(command, signal.SIGUSR1)
        assert registered.wait(15) == 128 + signal.SIGTERM


@pytest.mark.parametrize("asked_to_stop", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_its_command_started_and_does_not_die_is_told(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch, asked_to_stop: bool
) -> None:
    undying(monkeypatch)
    command = stops(os.getpid()) if asked_to_stop else ["true"]
    ended = said(service(etcd, namespace, "register", "greeter", HERE, "--", *command))
    assert (ended.returncode, "may still run" in ended.stderr) == (1, True)
    assert said(service(etcd, namespace, "list", "greeter")).returncode == 4


@pytest.mark.slow
def test_without_a_command_it_is_registered_until_a_signal(etcd: EmbeddedEtcd, namespace: str) -> None:
    with (
        process(service(etcd, namespace, "watch", "greeter", "--json")) as watching,
        process(service(etcd, namespace, "register", "greeter", HERE)) as registered,
    ):
        joined = json.loads(watching.until(lambda line: HERE in line))
        assert (joined["event"], joined["service"], joined["metadata"]) == ("joined", "greeter", {})
        os.kill(registered.pid, signal.SIGINT)
        assert registered.wait(10) == 0
        assert json.loads(watching.until(lambda line: "left" in line))["address"] == HERE
        until_gone(etcd, namespace)
    assert etcdctl(etcd.endpoint, "get", "--prefix", f"/leaderjob/{namespace}/") == ""


def test_a_command_is_registered_once_it_listens_where_that_is_asked_for(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    gate, port = tmp_path / "gate", free_ports(1)[0]
    code = (
        "import pathlib, socket, time\n"
        "print('up', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        f"with socket.create_server(('127.0.0.1', {port})) as server:\n"
        "    print('listening', flush=True)\n"
        "    while True: server.accept()[0].close()"
    )
    command = ["--when-listening", "greeter", f"127.0.0.1:{port}", "--", sys.executable, "-c", code]
    with (
        process(service(etcd, namespace, "watch", "greeter")) as watching,
        process(service(etcd, namespace, "register", *command)) as registered,
    ):
        registered.until(lambda line: line == "up")
        assert said(service(etcd, namespace, "list", "greeter")).returncode == 4
        gate.touch()
        watching.until(lambda line: "joined" in line)
        # It would not have joined before: the line was written before any connection was taken.
        registered.until(lambda line: line == "listening", timeout_s=1.0)
        registered.terminate()
        assert registered.wait(15) == 128 + signal.SIGTERM
    never = ["--when-listening", "greeter", f"127.0.0.1:{port}", "--", "sh", "-c", "exit 5"]
    assert said(service(etcd, namespace, "register", *never)).returncode == 5


@pytest.mark.parametrize("comes_back", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_command_that_runs_is_left_alone_while_etcd_does_not_answer(
    own_etcd: EmbeddedEtcd, namespace: str, tmp_path: Path, comes_back: bool
) -> None:
    gate, end, port = tmp_path / "gate", tmp_path / "end", free_ports(1)[0]
    code = (
        "import pathlib, socket, sys, time\n"
        "print('up', flush=True)\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        f"with socket.create_server(('127.0.0.1', {port})):\n"
        f"    while not pathlib.Path({str(end)!r}).exists(): time.sleep(0.01)\n"
        "    sys.exit(5)"
    )
    command = ["--when-listening", "greeter", f"127.0.0.1:{port}", "--", sys.executable, "-c", code]
    arguments = service(own_etcd, namespace, "register", *command)
    with Lines(
        "sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable, "-m", "leaderjob", *arguments
    ) as registered:
        registered.until(lambda line: line == "up")
        own_etcd.kill()
        gate.touch()
        registered.until(lambda line: "trying again" in line, timeout_s=30)
        if comes_back:
            asyncio.run(own_etcd.start())
            registered.until(lambda line: "is registered as an instance" in line, timeout_s=30)
            assert "greeter" in said(service(own_etcd, namespace, "list", "greeter")).stdout
        end.touch()
        assert registered.wait(15) == 5
    assert sum("trying again" in line for line in registered.read) == 1


def test_it_registers_again_in_a_store_that_went_back_and_leaves_its_command_alone(
    own_etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def write_much() -> None:
        async with Etcd([own_etcd.endpoint]) as client:
            for _ in range(50):
                await client.put("/lost", b"")

    run_with_streams(write_much())
    command = ["--ttl", "2s", "greeter", HERE, "--", "sh", "-c", "echo up; exec sleep 1000"]
    arguments = service(own_etcd, namespace, "register", *command)
    with Lines(
        "sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable, "-m", "leaderjob", *arguments
    ) as registered:
        registered.until(lambda line: line == "up")
        asyncio.run(wipe(own_etcd))
        registered.until(lambda line: "registering again" in line)
        registered.until(lambda line: "is registered as an instance" in line)
        assert HERE in said(service(own_etcd, namespace, "list", "greeter")).stdout
        registered.terminate()
        assert registered.wait(15) == 128 + signal.SIGTERM
    assert registered.read.count("up") == 1


def test_wrong_usage_and_an_etcd_that_is_not_there_have_their_own_exit_codes(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    for wrong in (
        ["greeter", ":8080"],
        ["Greeter", HERE],
        ["greeter"],
        ["--metadata", "zone", "greeter", HERE],
        ["--metadata", "=b", "greeter", HERE],
        ["--when-listenning", "greeter", HERE],
        ["greeter", HERE, "--when-listenning"],
    ):
        refused = said(service(etcd, namespace, "register", *wrong, "--", "true"))
        assert refused.returncode == 2, refused
        assert "Traceback" not in refused.stderr
    away = said(["service", "register", "--etcd", "127.0.0.1:1", "greeter", HERE, "--", "true"])
    assert away.returncode == 3
    missing = said(service(etcd, namespace, "register", "greeter", HERE, "--", "no-such-command"))
    assert missing.returncode == 127
    assert said(service(etcd, namespace, "list")).stdout == ""
