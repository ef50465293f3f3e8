"""Commands in environments that lack something: no home, no streams, no terminal, no temporary files.

Each does what it would do elsewhere, or says in a sentence what it lacks.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from leaderjob.embedded.child import spawn
from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.commands import environment, said

_NO_HOME = "import pwd\ndef getpwuid(uid): raise KeyError(uid)\npwd.getpwuid = getpwuid\n"
_NO_TEMPORARY = (
    "import os, tempfile\ntempfile._candidate_tempdir_list = lambda: [os.environ.get('TMPDIR', '/proc')]\n"
)
_JOB = """
import tempfile
from leaderjob import JobContext, job

@job(schedule="every 1h")
def writes(ctx: JobContext) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"1")
"""


@dataclass(frozen=True)
class Environment:
    """What differs from a usual one.

    :param around: a command of the shell, which runs "$@". :param patch: of Python, in each process.
    """

    around: str = 'exec "$@"'
    variables: dict[str, str | None] = field(default_factory=dict)
    patch: str = ""

    def command(self, *arguments: str) -> list[str]:
        return ["/bin/sh", "-c", self.around, "sh", sys.executable, "-m", "leaderjob", *arguments]

    def environment(self, directory: Path) -> dict[str, str]:
        (directory / "sitecustomize.py").write_text(self.patch)
        found = environment()
        found["PYTHONPATH"] = f"{directory}{os.pathsep}{found['PYTHONPATH']}"
        for name, value in self.variables.items():
            if value is None:
                found.pop(name, None)
            else:
                found[name] = value
        return found


ENVIRONMENTS = {
    "closed streams": Environment('exec "$@" 0<&- 1>&- 2>&-'),
    "closed input and output": Environment('exec "$@" 0<&- 1>&-'),
    "full output": Environment('exec "$@" >/dev/full'),
    "nobody reads the output": Environment('{ "$@"; echo "$?" >code; } | true; exit "$(cat code)"'),
    "no home": Environment(variables={"HOME": None, "XDG_STATE_HOME": None}, patch=_NO_HOME),
    "no temporary directory": Environment(variables={"TMPDIR": None}, patch=_NO_TEMPORARY),
    "ascii": Environment(variables={"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    "no terminal type": Environment(variables={"TERM": None, "COLUMNS": None}),
    "no current directory": Environment('mkdir gone && cd gone && rmdir ../gone && exec "$@"'),
}
COMMANDS = {
    "status": (["status", "--etcd", "ETCD", "--namespace", "NAMESPACE"], 0),
    "doctor": (["doctor", "--etcd", "ETCD", "--namespace", "NAMESPACE", "--jobs", "writes"], 0),
    "settings": (["settings"], 0),
    "init": (["init", "DIRECTORY/new"], 0),
    "help": (["run", "--help"], 0),
    "query": (["query", "nothing", "{}", "--etcd", "ETCD", "--namespace", "NAMESPACE"], 4),
    "run": (["run", "--etcd", "127.0.0.1:1", "--jobs", "writes"], 3),
}
DIFFERENT = {
    **{("full output", command): 1 for command in ("status", "doctor", "settings", "init", "help")},
    ("no home", "doctor"): 1,  # a replica would have no state directory
    ("no current directory", "doctor"): 1,
    ("no current directory", "run"): 2,
}
"""Exit codes that are not those of a usual environment."""
QUICK = {
    ("closed streams", "doctor"),
    ("closed input and output", "status"),
    ("full output", "settings"),
    ("no home", "status"),
    ("no home", "doctor"),
    ("no temporary directory", "doctor"),
    ("ascii", "doctor"),
    ("no current directory", "run"),
}


@pytest.mark.parametrize(
    ("where", "command"),
    [
        pytest.param(where, command, marks=() if (where, command) in QUICK else pytest.mark.slow)
        for where in ENVIRONMENTS
        for command in COMMANDS
    ],
)
def test_command_works_or_says_what_it_lacks(
    where: str, command: str, etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "writes.py").write_text(_JOB)
    arguments, usual = COMMANDS[command]
    places = {"ETCD": etcd.endpoint, "NAMESPACE": namespace, "DIRECTORY": str(tmp_path)}
    for word, meaning in places.items():
        arguments = [argument.replace(word, meaning) for argument in arguments]
    done = subprocess.run(
        ENVIRONMENTS[where].command(*arguments),
        env=ENVIRONMENTS[where].environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        timeout=60.0,
        check=False,
    )
    told = (done.stdout + done.stderr).decode()
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    assert done.returncode == DIFFERENT.get((where, command), usual), told
    if done.returncode and where != "closed streams" and command not in ("doctor", "run"):
        assert "leaderjob: " in told


def started(
    where: Environment, etcd: EmbeddedEtcd, namespace: str, directory: Path
) -> "subprocess.Popen[bytes]":
    """A replica that leads, and has announced its job."""
    (directory / "writes.py").write_text(_JOB)
    arguments = ["run", "--id", "r", "--jobs", "writes", "--etcd", etcd.endpoint, "--namespace", namespace]
    command = where.command(*arguments, "--state-dir", str(directory / "state"))
    with (directory / "log").open("ab") as log:
        process = spawn(command, log, environment=where.environment(directory), cwd=directory)
    while not (is_led(etcd, namespace) and "writes" in jobs_of(etcd, namespace)):
        assert process.poll() is None, (directory / "log").read_text()
        time.sleep(0.1)
    return process


def is_led(etcd: EmbeddedEtcd, namespace: str) -> bool:
    found = said(["status", "--json", "--etcd", etcd.endpoint, "--namespace", namespace])
    return json.loads(found.stdout)["leader"] is not None


def jobs_of(etcd: EmbeddedEtcd, namespace: str) -> list[str]:
    found = said(["status", "--json", "--etcd", etcd.endpoint, "--namespace", namespace])
    return [job["name"] for job in json.loads(found.stdout)["jobs"]]


@pytest.mark.parametrize("where", ["closed streams", "no temporary directory"])
def test_replica_runs_its_jobs(where: str, etcd: EmbeddedEtcd, namespace: str, tmp_path: Path) -> None:
    replica = started(ENVIRONMENTS[where], etcd, namespace, tmp_path)
    try:
        options = ["--etcd", etcd.endpoint, "--namespace", namespace]
        triggered = said(["trigger", "writes", "--wait", *options])
        assert triggered.returncode == 0, triggered.stdout + triggered.stderr
        replica.send_signal(signal.SIGTERM)
        assert replica.wait(30.0) == 0
        assert not is_led(etcd, namespace)
    finally:
        replica.kill()
        replica.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("is_ignored", [False, True])
def test_replica_leaves_office_when_its_terminal_goes_away(
    is_ignored: bool, etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Unless it was told to ignore that, as ``nohup`` does."""
    where = Environment('trap "" HUP; exec "$@"') if is_ignored else Environment('exec "$@"')
    replica = started(where, etcd, namespace, tmp_path)
    try:
        replica.send_signal(signal.SIGHUP)
        if is_ignored:
            # A signal that is ignored is gone: what comes next finds the replica as it was.
            assert is_led(etcd, namespace)
            replica.send_signal(signal.SIGTERM)
        assert replica.wait(30.0) == 0
        assert not is_led(etcd, namespace)
    finally:
        replica.kill()
        replica.wait()
    stopping = [line for line in (tmp_path / "log").read_text().splitlines() if "replica_stopping" in line]
    assert len(stopping) == 1


def test_held_command_goes_on_without_its_terminal_under_nohup(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    script = 'kill -HUP "$PPID" 2>/dev/null; kill -HUP "$(cat pid)"; echo done'
    (tmp_path / "script.sh").write_text(script)
    command = Environment('trap "" HUP; echo "$$" >pid; exec "$@"').command(
        "lock", "l", "--etcd", etcd.endpoint, "--namespace", namespace, "--", "/bin/sh", "script.sh"
    )
    done = subprocess.run(
        command, env=environment(), cwd=tmp_path, capture_output=True, timeout=60.0, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"done\n"), shlex.join(command)
