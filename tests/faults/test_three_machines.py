"""The walk through docs/deploy.md, word for word, on three machines of a network of their own."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import environment
from tests.support.etcd import program
from tests.support.machines import Machine, machines
from tests.support.needs import needs

_PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
_UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "leaderjob.service"
_ADDRESSES = {f"m{number}": f"10.0.0.1{number}" for number in (1, 2, 3)}
_TTL_S = 10

pytestmark = needs("machines", "openssl")


def blocks(language: str) -> list[str]:
    """What the page has to be typed in, in its order."""
    section = _PAGE.read_text().split("## Three machines, step by step")[1].split("\n## ")[0]
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return found


def on(machine: Machine, text: str) -> str:
    """What the page says of the first machine, as it is on this one; its folders are beside each other here."""
    text = text.replace("ETCD_NAME=m1", f"ETCD_NAME={machine.name}").replace('"m1"', f'"{machine.name}"')
    lines = [
        line
        if "INITIAL_CLUSTER=" in line or "endpoints" in line
        else line.replace("10.0.0.11", machine.address)
        for line in text.splitlines()
    ]
    text = "\n".join(lines).replace(
        "/opt/leaderjob/venv/bin/leaderjob", f"{shlex.quote(sys.executable)} -m leaderjob"
    )
    text = text.replace("cd /opt/leaderjob", f"cd {shlex.quote(str(machine.directory))}")
    for folder in ("/etc/leaderjob", "/etc/etcd", "/var/lib"):
        text = text.replace(folder, str(machine.directory) + folder)
    return text


def started_by_the_unit() -> str:
    """What the unit starts, its folders as systemd names them on a system without a user's session."""
    (command,) = re.findall(r"^ExecStart=(.*)$", _UNIT.read_text(), re.MULTILINE)
    return str(command).replace("%E", "/etc").replace("%S", "/var/lib")


def surroundings() -> dict[str, str]:
    programs = program("etcd").parent
    return environment(PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")


class Deployed:
    """What the page makes of three machines."""

    def __init__(self, made: dict[str, Machine]) -> None:
        self.machines = made
        self.replicas: dict[str, subprocess.Popen[bytes]] = {}
        _, self.etcd, _, self.examine, self.look = blocks("sh")
        (self.settings,) = blocks("toml")

    def shell(self, machine: Machine, script: str) -> "subprocess.CompletedProcess[str]":
        return machine.run(["sh", "-ec", on(machine, script)], surroundings())

    def start(self) -> None:
        for machine in self.machines.values():
            (machine.directory / "var/lib/etcd").mkdir(parents=True)
            command = ["sh", "-ec", f"set -a\n{on(machine, self.etcd)}\nexec etcd"]
            machine.start(command, machine.directory / "etcd.log", surroundings())
        for machine in self.machines.values():
            (machine.directory / "etc/leaderjob/leaderjob.toml").write_text(on(machine, self.settings))
            init = machine.run([sys.executable, "-m", "leaderjob", "init", "."], surroundings())
            assert init.returncode == 0, init.stderr
        self.eventually("the doctor is content on the first machine", self._is_well)
        for name in self.machines:
            self.run_replica(name)

    def run_replica(self, name: str) -> None:
        machine = self.machines[name]
        command = ["sh", "-ec", "exec " + on(machine, started_by_the_unit())]
        self.replicas[name] = machine.start(command, machine.directory / "replica.log", surroundings())

    def status(self, name: str) -> dict[str, Any]:
        """As the page says, on that machine; empty where etcd does not answer there."""
        done = self.shell(self.machines[name], self.look.splitlines()[0] + " --json")
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def leader(self, seen_from: str) -> str | None:
        leader = self.status(seen_from).get("leader")
        return str(leader["replica"]) if leader and leader["since"] else None

    def eventually(self, what: str, condition: Callable[[], Any], *, timeout_s: float = 40.0) -> Any:
        give_up_at = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < give_up_at, f"not so: {what}\n{self.logs()}"
            time.sleep(0.1)
        return found

    def logs(self) -> str:
        return "\n".join(
            f"--- {name}\n{log.read_text(errors='replace')[-3000:]}"
            for name, machine in self.machines.items()
            if (log := machine.directory / "replica.log").exists()
        )

    def _is_well(self) -> bool:
        return self.shell(self.machines["m1"], self.examine).returncode == 0


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    authority = tmp_path / "authority"
    authority.mkdir()
    done = subprocess.run(
        ["sh", "-ec", blocks("sh")[0]], cwd=authority, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with machines(_ADDRESSES, tmp_path / "machines") as made:
        for name, machine in made.items():
            for folder in (machine.directory / "etc/leaderjob", machine.directory / "etc/etcd"):
                folder.mkdir(parents=True)
                shutil.copy(authority / "ca.pem", folder / "ca.pem")
                shutil.copy(authority / f"{name}.pem", folder / "cert.pem")
                shutil.copy(authority / f"{name}-key.pem", folder / "key.pem")
        found = Deployed(made)
        found.start()
        yield found


@pytest.mark.long
def test_who_follows_the_page_has_a_cluster_that_outlives_a_process_and_a_machine(deployed: Deployed) -> None:
    leader = deployed.eventually("somebody leads", lambda: deployed.leader("m1"))
    done = deployed.shell(deployed.machines["m1"], deployed.look.splitlines()[1])
    assert done.returncode == 0, done.stderr + deployed.logs()
    assert "succeeded, version" in done.stdout

    def serving() -> set[str]:
        members = deployed.status("m1").get("members", [])
        return {member["replica"] for member in members if member["versions"].get("hello")}

    deployed.eventually("all serve", lambda: serving() == set(_ADDRESSES))

    deployed.replicas[leader].kill()
    deployed.replicas[leader].wait()
    second = deployed.eventually("another one leads", lambda: deployed.leader("m1") not in (None, leader))
    assert second
    second = deployed.leader("m1") or ""
    deployed.run_replica(leader)
    deployed.eventually("it is back", lambda: len(deployed.status("m1").get("members", [])) == 3)

    # Where the leader's machine is off the network, the others are asked.
    other = next(name for name in _ADDRESSES if name != second)
    deployed.machines[second].unplug()
    unplugged_at = time.monotonic()
    deployed.eventually("another one leads", lambda: deployed.leader(other) not in (None, second))
    assert time.monotonic() - unplugged_at > _TTL_S / 2, "nothing but the TTL tells a lost machine"
    deployed.machines[second].plug_in()
    deployed.eventually("it is back", lambda: len(deployed.status(other).get("members", [])) == 3)
