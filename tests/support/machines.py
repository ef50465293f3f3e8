"""Machines of a network that exists in this kernel only: a namespace each, a cable each to one switch. Needs root."""

import ipaddress
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.needs import needs

needs_machines = needs("machines")


@dataclass(slots=True)
class Machine:
    """:param namespace: of the network; everything else is shared with this system, so use ``directory``."""

    name: str
    address: str
    namespace: str
    switch: str
    directory: Path
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        """Start a process that does not outlive the test."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=self.directory,
            )
        self.processes.append(process)
        return process

    def run(
        self, command: Sequence[str], environment: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=dict(environment),
            cwd=self.directory,
        )

    def unplug(self) -> None:
        """Take it off the network: whatever is sent to it is lost without an answer."""
        _ip("-n", self.switch, "link", "set", self.name, "down")

    def plug_in(self) -> None:
        _ip("-n", self.switch, "link", "set", self.name, "up")


@contextmanager
def machines(
    addresses: Mapping[str, str], directory: Path, *, ours: Sequence[str] = ()
) -> Iterator[dict[str, Machine]]:
    """:param addresses: of each machine by its name, in one network of 24 bits.
    :param ours: addresses of this system in that network; the first is what others see of whoever does not
        bind to another. Give a network that this system has no other way to: see :func:`unused_network`.
    """
    switch = f"lj-{secrets.token_hex(3)}"
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", switch, "link", "set", "switch", "up")
        with machines_at(switch, addresses, directory) as made:
            if ours:
                _join(switch, switch, ours)
            yield made
    finally:
        _ip("netns", "delete", switch)


@contextmanager
def machines_at(switch: str, addresses: Mapping[str, str], directory: Path) -> Iterator[dict[str, Machine]]:
    """More machines at the switch of others. :param addresses: of each by its name, in the others' network."""
    made: dict[str, Machine] = {}
    try:
        for name, address in addresses.items():
            namespace = f"{switch}-{name}"
            _ip("netns", "add", namespace)
            made[name] = Machine(name, address, namespace, switch, directory / name)
            made[name].directory.mkdir(parents=True, exist_ok=True)
            _ip("-n", switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("-n", switch, "link", "set", name, "master", "switch", "up")
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "link", "set", "lo", "up")
        yield made
    finally:
        for machine in made.values():
            for process in reversed(machine.processes):
                process.kill()
                process.wait()
        for machine in made.values():
            _ip("netns", "delete", machine.namespace)


def unused_network() -> ipaddress.IPv4Network:
    """A private network of 24 bits that this system has no route to."""
    routes = subprocess.run(
        ["ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, text=True, check=True
    ).stdout
    destinations = [route["dst"] for route in json.loads(routes) if route["dst"] != "default"]
    taken = [ipaddress.ip_network(destination) for destination in destinations]
    while True:
        network = ipaddress.IPv4Network((int.from_bytes((10, *secrets.token_bytes(2), 0)), 24))
        if not any(network.overlaps(other) for other in taken):
            return network


def _join(switch: str, interface: str, addresses: Sequence[str]) -> None:
    """A cable from this system to the switch; it goes with the switch."""
    here = ("peer", "name", interface, "netns", str(os.getpid()))
    _ip("-n", switch, "link", "add", "ours", "type", "veth", *here)
    _ip("-n", switch, "link", "set", "ours", "master", "switch", "up")
    for address in addresses:
        _ip("address", "add", f"{address}/24", "dev", interface)
    _ip("link", "set", interface, "up")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
