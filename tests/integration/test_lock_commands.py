"""``leaderjob lock`` and ``leaderjob elect`` with real processes: one command at a time, and none without its lock."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from tests.support import marked
from tests.support.commands import Lines, leaderjob, said
from tests.support.etcd import program
from tests.support.locks import keys_below, until_standing
from tests.support.streams import run_with_streams
from tests.support.undying import stops, undying

UP = "import os, signal, sys, time\nprint('up', os.environ['LEADERJOB_FENCING_TOKEN'], flush=True)\n"
SLEEPS = UP + "time.sleep(1000)"
IN_ORDER = (
    "import os, signal, time\nsignal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'in order\\n'), os._exit(5)))\n"
    + SLEEPS
)
slow = pytest.mark.slow


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    return marked.put_mark(monkeypatch)


class Commands:
    """``leaderjob COMMAND`` on one etcd and one namespace."""

    def __init__(self, endpoint: str, namespace: str) -> None:
        self.endpoint = endpoint
        self.namespace = namespace
        self.options = [f"--etcd={endpoint}", f"--namespace={namespace}"]

    def run(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return leaderjob(command, *self.options, *arguments)

    def start(self, command: str, *arguments: str, code: str) -> Lines:
        program = [sys.executable, "-m", "leaderjob", command, *self.options, *arguments]
        return Lines(*program, "x", "--", sys.executable, "-I", "-S", "-c", code)

    def until_standing(self, kind: str, number: int) -> None:
        prefix = f"/leaderjob/{self.namespace}/{kind}/x/"
        run_with_streams(until_standing(self.endpoint, prefix, number))

    def first_key(self) -> str:
        keys = run_with_streams(keys_below(self.endpoint, self.namespace))
        return min(keys, key=lambda kv: kv.create_revision).key

    def delete(self, key: str) -> None:
        async def main() -> None:
            async with Etcd([self.endpoint]) as client:
                await client.delete(key)

        run_with_streams(main())


@pytest.fixture
def commands(etcd: EmbeddedEtcd, namespace: str) -> Commands:
    return Commands(etcd.endpoint, namespace)


def is_up(line: str) -> bool:
    return line.startswith("up ")


@pytest.mark.parametrize("kind", ["lock", pytest.param("elect", marks=slow)])
@pytest.mark.parametrize("code", [pytest.param(0, marks=slow), 7])
async def test_the_commands_exit_code_is_passed_on_and_nothing_is_left(
    commands: Commands, kind: str, code: int
) -> None:
    done = commands.run(kind, "x", "--", "sh", "-c", f"echo $LEADERJOB_FENCING_TOKEN; exit {code}")
    assert (done.returncode, done.stderr) == (code, "")
    assert int(done.stdout) > 0
    assert await keys_below(commands.endpoint, commands.namespace) == []


@slow
@pytest.mark.parametrize("kind", ["lock", "elect"])
def test_a_command_that_does_not_exist_is_told_in_one_line(commands: Commands, kind: str) -> None:
    done = commands.run(kind, "x", "--", "/no/such/program")
    assert done.returncode == 127
    assert re.fullmatch(r"leaderjob: cannot run /no/such/program: .*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--try"], 4),
        pytest.param(["--wait", "0.2"], 4, marks=slow),
        pytest.param(["--try", "--conflict-exit-code", "75"], 75, marks=slow),
    ],
)
def test_a_lock_that_another_holds_is_told_by_an_exit_code(
    commands: Commands, arguments: list[str], code: int
) -> None:
    with commands.start("lock", code=SLEEPS) as holder:
        holder.until(is_up)
        done = commands.run("lock", *arguments, "x", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (code, "")
    assert "others hold it" in done.stderr


@slow
@pytest.mark.parametrize("kind", ["lock", "elect"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x"], "COMMAND|what to run"),
        (["A/B", "--", "true"], "A/B"),
        (["--ttl", "1", "x", "--", "true"], "ttl 1 s"),
        (["--ttl", "soon", "x", "--", "true"], "soon"),
    ],
)
def test_wrong_usage_is_told(commands: Commands, kind: str, arguments: list[str], says: str) -> None:
    done = commands.run(kind, *arguments)
    assert done.returncode == 2
    assert re.search(says, done.stderr)


@pytest.mark.parametrize("kind", ["lock", "elect"])
def test_a_name_that_is_none_is_told_without_an_etcd(kind: str) -> None:
    done = said([kind, "--etcd=127.0.0.1:1", "A/B", "--", "true"])
    assert (done.returncode, "A/B" in done.stderr) == (2, True)


@slow
@pytest.mark.parametrize("kind", ["lock", "elect"])
def test_an_etcd_that_is_not_there_is_told(kind: str) -> None:
    done = leaderjob(kind, "--etcd=127.0.0.1:1", "x", "--", "true")
    assert done.returncode == 3


@pytest.mark.parametrize("kind", ["lock", pytest.param("elect", marks=slow)])
def test_the_command_dies_with_leaderjob(commands: Commands, mark: str, kind: str) -> None:
    code = (
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nif os.fork() == 0: os.setsid()\n"
        + SLEEPS
    )
    with commands.start(kind, code=code) as running:
        running.until(is_up)
        os.kill(running.pid, signal.SIGKILL)
        assert running.wait(10) == -signal.SIGKILL
        assert marked.left_after(mark, within_s=5) == []


@pytest.mark.parametrize("kind", ["lock", pytest.param("elect", marks=slow)])
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=slow) for number in (signal.SIGINT, signal.SIGHUP))],
)
def test_asked_to_stop_it_stops_the_command_in_order_and_lets_the_next_one(
    commands: Commands, mark: str, kind: str, number: signal.Signals
) -> None:
    with commands.start(kind, code=IN_ORDER) as running:
        running.until(is_up)
        os.kill(running.pid, number)
        running.until(lambda line: line == "in order")
        assert running.wait(10) == 128 + number
    assert run_with_streams(keys_below(commands.endpoint, commands.namespace)) == []
    assert marked.alive(mark) == []


def test_a_command_whose_lock_is_lost_is_killed_without_grace(commands: Commands, mark: str) -> None:
    code = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEPS
    with commands.start("lock", "--ttl=3", "--grace=60s", code=code) as running:
        running.until(is_up)
        commands.delete(commands.first_key())
        assert running.wait(20) == 1  # a keepalive later, and not a grace
    assert marked.alive(mark) == []


@pytest.mark.parametrize("kind", ["lock", pytest.param("elect", marks=slow)])
@pytest.mark.parametrize("asked_to_stop", [False, pytest.param(True, marks=slow)])
def test_what_a_command_started_and_does_not_die_keeps_the_lock_until_the_lease_runs_out(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, kind: str, asked_to_stop: bool
) -> None:
    undying(monkeypatch)
    command = stops(os.getpid()) if asked_to_stop else ["true"]
    ended = said([kind, *commands.options, "x", "--", *command])
    assert (ended.returncode, "may still run" in ended.stderr) == (1, True)
    (key,) = run_with_streams(keys_below(commands.endpoint, commands.namespace))
    assert key.lease


@slow
def test_who_waits_gets_the_lock_when_its_holder_is_killed(commands: Commands) -> None:
    with commands.start("lock", "--ttl=2", code=SLEEPS) as first:
        token = int(first.until(is_up).split()[1])
        with commands.start("lock", code=SLEEPS) as second:
            commands.until_standing("locks", 2)
            os.kill(first.pid, signal.SIGKILL)
            assert int(second.until(is_up).split()[1]) > token


def test_a_command_that_loses_office_is_killed_and_runs_again_with_the_next_term(commands: Commands) -> None:
    with commands.start("elect", "--ttl=3", code=SLEEPS) as running:
        token = int(running.until(is_up).split()[1])
        commands.delete(commands.first_key())
        assert int(running.until(is_up, timeout_s=20).split()[1]) > token


@slow
def test_one_of_several_candidates_runs_and_the_next_one_follows(commands: Commands) -> None:
    with commands.start("elect", "--value=one", code=SLEEPS) as one:
        one.until(is_up)
        with commands.start("elect", "--value=two", code=UP) as two:
            commands.until_standing("elections", 2)
            assert commands.run("elect", "x", "--leader").stdout == "one\n"
            told = json.loads(commands.run("elect", "x", "--leader", "--json").stdout)
            assert (told["value"], told["key"]) == ("one", commands.first_key())
            assert two.read == []
            os.kill(one.pid, signal.SIGTERM)
            two.until(is_up)
            assert two.wait(10) == 0
    nobody = commands.run("elect", "x", "--leader")
    assert (nobody.returncode, nobody.stdout) == (4, "")


@slow
def test_who_listens_is_told_of_each_leader(commands: Commands) -> None:
    listen = [sys.executable, "-m", "leaderjob", "elect", *commands.options, "x", "--listen"]
    with Lines(*listen) as listener:
        for name in ("one", "two"):
            with commands.start("elect", f"--value={name}", code=SLEEPS) as leader:
                listener.until(lambda line, name=name: line == name)  # type: ignore[misc]
                os.kill(leader.pid, signal.SIGTERM)
                leader.wait(10)


@contextmanager
def etcdctl_elect(commands: Commands, proposal: str) -> Iterator["subprocess.Popen[str]"]:
    prefix = f"/leaderjob/{commands.namespace}/elections/x"
    command = [str(program("etcdctl")), f"--endpoints={commands.endpoint}", "elect", prefix, proposal]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"ETCDCTL_API": "3"}) as process:
        yield process
        process.terminate()
        process.wait(timeout=10)


@slow
def test_etcdctl_and_we_take_turns_in_office(commands: Commands) -> None:
    with etcdctl_elect(commands, "theirs") as theirs:
        assert theirs.stdout is not None
        assert theirs.stdout.readline().startswith(f"/leaderjob/{commands.namespace}/elections/x/")
        assert commands.run("elect", "x", "--leader").stdout == "theirs\n"
        with commands.start("elect", "--value=ours", code=SLEEPS) as ours:
            commands.until_standing("elections", 2)
            assert ours.read == []
            theirs.terminate()
            ours.until(is_up)
            with etcdctl_elect(commands, "again") as again:
                commands.until_standing("elections", 2)
                os.kill(ours.pid, signal.SIGTERM)
                ours.wait(10)
                assert again.stdout is not None
                assert again.stdout.readline() != ""
