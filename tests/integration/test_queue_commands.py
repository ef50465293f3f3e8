"""``leaderjob queue``: what scripts read from it, and what it ends with."""

import json
import os
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest

from leaderjob.cli.main import run as command_line
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from tests.support.commands import Lines, Said, leaderjob, said
from tests.support.queues import Counter
from tests.support.streams import run_with_streams
from tests.support.undying import undying

FAIL = ("--", "sh", "-c", "exit 7")


class CommandLine:
    def __init__(self, endpoint: str, namespace: str) -> None:
        self.place = ["--etcd", endpoint, "--namespace", namespace]
        self.counter = Counter(endpoint, namespace)

    def run(self, command: str, *arguments: str) -> Said:
        """In this process, which the commands that it runs do not print into."""
        out = TextIOWrapper(BytesIO(), "utf-8", write_through=True)
        with redirect_stdout(out), redirect_stderr(StringIO()) as err:
            code = command_line(["queue", command, *self.place, "q", *arguments])
        out.seek(0)
        return Said(code, out.read(), err.getvalue())

    def pop(self, *command: str) -> str:
        """What ``pop -- COMMAND`` and the command print; both end with 0."""
        done = leaderjob("queue", "pop", *self.place, "q", "--", *command)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def line(etcd: EmbeddedEtcd, namespace: str) -> CommandLine:
    return CommandLine(etcd.endpoint, namespace)


def test_a_command_that_only_looks_takes_no_lease(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.run("push", "one")

    async def refused(*_: object) -> tuple[int, int]:
        raise AssertionError("a lease was asked for")

    monkeypatch.setattr(Etcd, "grant", refused)
    assert line.run("peek").stdout == "one\n"
    assert line.run("length").stdout == "1\n"
    assert line.run("dead", "--json").returncode == 0
    assert line.run("foreign", "--json").stdout == "{}\n"


def test_a_name_that_is_none_is_told_without_an_etcd() -> None:
    for command in (["push", "A/B", "x"], ["pop", "A/B"], ["peek", "A/B"], ["length", "A/B"]):
        with redirect_stderr(StringIO()) as told:
            assert command_line(["queue", *command, "--etcd", "127.0.0.1:1"]) == 2
        assert "'A/B'" in told.getvalue()


def test_what_is_pushed_is_popped_in_order_and_an_empty_queue_ends_with_four(line: CommandLine) -> None:
    pushed = line.run("push", "one", "-two")
    assert pushed.returncode == 2, "an option that there is none of"
    pushed = line.run("push", "one", "zwei €")
    assert (pushed.returncode, len(pushed.stdout.split())) == (0, 2)
    assert line.run("length").stdout == "2\n"
    assert line.run("peek", "--newest-first").stdout == "zwei €\n"
    assert [line.run("pop").stdout, line.run("pop", "--wait").stdout] == ["one\n", "zwei €\n"]
    for arguments in (["pop"], ["pop", "--wait", "50ms"], ["peek"]):
        ended = line.run(*arguments)
        assert (ended.returncode, ended.stdout) == (4, ""), arguments
        assert "no item" in ended.stderr


def test_a_command_gets_the_item_and_its_end_decides(line: CommandLine) -> None:
    line.run("push", "work")
    failed = line.run("pop", *FAIL)
    assert (failed.returncode, "ended with 7: the item was given back" in failed.stderr) == (7, True)
    assert line.run("pop", "--", "no-such-command").returncode == 127, "which is no try of the item"
    assert line.pop("sh", "-c", 'cat; echo " $LEADERJOB_ITEM_TRIES"') == "work 2\n"
    assert line.run("length").stdout == "0\n"


def test_a_command_may_use_leaderjob_itself(line: CommandLine) -> None:
    line.run("push", "work")
    again = f"{sys.executable} -m leaderjob queue push {' '.join(line.place)} other more"
    assert line.run("pop", "--", "sh", "-c", again).returncode == 0
    assert line.run("length").stdout == "0\n"


def test_dead_letters_are_listed_and_put_back(line: CommandLine) -> None:
    item_id = line.run("push", "poison").stdout.strip()
    assert line.run("pop", "--max-tries", "1", *FAIL).returncode == 7
    assert line.run("length").stdout == "0\n"
    assert json.loads(line.run("dead", "--json").stdout) == {"id": item_id, "tries": 1, "value": "poison"}
    assert item_id in line.run("dead").stdout
    assert line.run("requeue", item_id).returncode == 0
    assert line.run("pop").stdout == "poison\n"
    again = line.run("requeue", item_id)
    assert (again.returncode, "no dead letter" in again.stderr) == (4, True)


def test_foreign_values_are_listed(line: CommandLine) -> None:
    async def put() -> None:
        async with Etcd([line.counter.endpoint]) as client:
            await client.put(f"{line.counter.root}items/x", b"[]")

    run_with_streams(put())
    listed = json.loads(line.run("foreign", "--json").stdout)
    assert list(listed) == [f"{line.counter.root}items/x"]


def _until_gone(pid: int) -> None:
    give_up_at = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up_at, f"{pid} lives on"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "how",
    [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL],
    ids=["terminated", "killed"],
)
def test_a_command_dies_with_its_consumer_and_the_item_returns(
    line: CommandLine, how: signal.Signals
) -> None:
    line.run("push", "work")
    script = "echo $$; cat; echo; exec sleep 600"
    arguments = ["queue", "pop", *line.place, "q", "--", "sh", "-c", script]
    with Lines(sys.executable, "-m", "leaderjob", *arguments) as consumer:
        pid = int(consumer.until(str.isdigit))
        consumer.until(lambda read: read == "work")
        (claim,) = run_with_streams(line.counter.keys("claims/"))
        os.kill(consumer.pid, how)
        assert consumer.wait(10) == (128 + how if how is signal.SIGTERM else -how)
        _until_gone(pid)

    async def expire() -> None:
        async with Etcd([line.counter.endpoint]) as client:
            await client.revoke(claim.lease)

    if how is signal.SIGKILL:
        run_with_streams(expire())
    peeked = line.run("peek")
    assert (peeked.returncode, peeked.stdout) == (0, "work\n")


def test_what_a_command_started_and_does_not_die_keeps_its_item_until_the_lease_runs_out(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    undying(monkeypatch)
    line.run("push", "work")
    ended = line.run("pop", "--", "true")
    assert (ended.returncode, "may still run" in ended.stderr) == (1, True)
    assert line.run("length").stdout == "1\n"
    assert line.run("pop").returncode == 4


def test_wrong_usage_ends_with_two(line: CommandLine) -> None:
    for arguments in (
        ["queue", "push", *line.place, "q"],
        ["queue", "push", *line.place, "Q", "x"],
        ["queue", "pop", *line.place, "q", "--wait", "soon"],
        ["queue", "pop", *line.place, "q", "--max-tries", "0"],
        ["queue", "pop", *line.place, "q", "--wiat", "sh"],
        ["queue"],
    ):
        assert said(arguments).returncode == 2, arguments
