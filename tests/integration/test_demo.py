"""``leaderjob demo`` as its users see it, on small corpora."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.commands import Lines, environment, leaderjob
from tests.support.etcd import program, version_of
from tests.support.marked import alive, left_after, put_mark

pytest.importorskip("tantivy")

_TEXTS = {
    "elephants.md": "# Elephants\n\nThe elephant never forgets where the water is.\n",
    "whales.txt": "Whales sing below the water, for hours and over great distances.\n",
    "swifts.html": "<html><title>Swifts</title><body>Swifts sleep above the water.</body></html>\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, text in _TEXTS.items():
        (corpus / name).write_text(text)
    return corpus


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The user's state folder."""
    return tmp_path / "state"


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()]


def processes(mark: str, word: str) -> list[int]:
    """The marked processes whose command line has the word."""
    found = []
    for pid in alive(mark):
        with suppress(OSError):  # it ended just now
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


@contextmanager
def descriptors(pids: list[int]) -> Iterator[list[int]]:
    """A descriptor for each process, which becomes readable when it ends."""
    opened = [os.pidfd_open(pid) for pid in pids]
    try:
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_the_report_has_the_documented_keys_and_nothing_stays_behind(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = put_mark(monkeypatch)
    corpus = tmp_path / "animals.jsonl"
    corpus.write_text(
        "".join(json.dumps({"title": name, "body": text}) + "\n" for name, text in _TEXTS.items())
    )
    done = leaderjob(
        "demo",
        "--exit",
        "--json",
        "--corpus",
        str(corpus),
        cwd=tmp_path,
        timeout_s=60,
        XDG_STATE_HOME=str(state),
    )
    assert done.returncode == 0, done.stderr
    assert left_after(mark, within_s=0) == []
    assert files_below(state) == []

    report = json.loads(done.stdout)
    assert report.keys() == {"replicas", "builds", "followers", "queries", "failover"}
    assert report["replicas"] == 3
    first, second = report["builds"]
    for build in (first, second):
        assert build.keys() == {"version", "leader", "token", "documents", "seconds"}
        assert build["documents"] == len(_TEXTS)
    assert (first["version"], second["version"]) == (1, 2)
    assert first["token"] < second["token"]
    failover = report["failover"]
    assert failover.keys() == {"killed", "new_leader", "milliseconds"}
    assert (failover["killed"], failover["new_leader"]) == (first["leader"], second["leader"])
    assert 0 < failover["milliseconds"] < 5000
    names = {"replica-1", "replica-2", "replica-3"}
    assert report["followers"].keys() == names - {second["leader"]}
    assert all(follower == {"version": 2, "verified": True} for follower in report["followers"].values())
    assert {query["replica"] for query in report["queries"]} == names
    for query in report["queries"]:
        assert query.keys() == {"replica", "query", "hits", "top"}
        assert query["hits"] >= 1
        assert isinstance(query["top"], str)


def test_commands_find_the_running_demo_and_ctrl_c_stops_replicas_first_and_etcd_last(
    folder: Path, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = put_mark(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with Lines(sys.executable, "-m", "leaderjob", "demo", "--corpus", str(folder)) as demo:
        demo.until(lambda line: "Ctrl-C stops everything" in line, timeout_s=45)
        assert not any("\x1b" in line for line in demo.read)
        assert any("took over after" in line for line in demo.read)
        started = next(line for line in demo.read if "started etcd" in line)
        assert f"started etcd {version_of(program('etcd'))} at 127.0.0.1:" in started

        found = leaderjob("search", "elephant", "--json", cwd=tmp_path)
        assert (found.returncode, json.loads(found.stdout)["value"]["hits"]) == (0, 1)
        assert "using the running demo: etcd 127.0.0.1:" in found.stderr
        shown = next(line for line in demo.read if line.strip().endswith("status")).split()
        status = subprocess.run(
            [*shown, "--json"],
            env=environment(),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert status.returncode == 0, status.stderr
        assert len(json.loads(status.stdout)["members"]) == 3

        replicas = processes(mark, "run")
        (etcd,) = [pid for pid in alive(mark) if Path(f"/proc/{pid}/exe").readlink().name == "etcd"]
        assert len(replicas) == 3
        with descriptors([*replicas, etcd]) as ends:
            os.kill(demo.pid, signal.SIGINT)
            assert select.select([ends[-1]], [], [], 20)[0], "etcd goes on"
            assert len(select.select(ends[:-1], [], [], 0)[0]) == 3, "etcd ended before the replicas"
        assert demo.wait(10.0) == 0
    assert left_after(mark, within_s=0) == []
    assert files_below(state) == []


def test_a_killed_demo_leaves_no_process_behind(
    folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = put_mark(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    with Lines(sys.executable, "-m", "leaderjob", "demo", "--corpus", str(folder)) as demo:
        demo.until(lambda line: "activated" in line or "serves" in line, timeout_s=45)
        assert len(alive(mark)) > 4
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait(10.0)
    assert left_after(mark, within_s=3) == []
