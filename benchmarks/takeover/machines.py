"""Machines that exist in this kernel only, a network namespace each, so that a leader can be cut off. Needs root."""

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from leaderjob.errors import LeaderjobError

_CLONE_NEWNET = 0x40000000


class NoNetwork(LeaderjobError):
    """Network namespaces cannot be made here; the message says why."""


def why_not() -> str | None:
    """Why there can be no machines here; None: there can."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    if shutil.which("ip") is None:
        return "needs ip (Debian: apt install iproute2)"
    return None


@dataclass(frozen=True, slots=True)
class Machine:
    """:param cable: the end of its cable that is on this system."""

    address: str
    namespace: str
    cable: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread starts in here runs on that machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/self/ns/net").open() as here, Path("/run/netns", self.namespace).open() as there:
            _check(libc.setns(there.fileno(), _CLONE_NEWNET))
            try:
                yield
            finally:
                _check(libc.setns(here.fileno(), _CLONE_NEWNET))

    def unplug(self) -> None:
        """Whatever is sent to it or by it is lost without an answer."""
        _ip("link", "set", self.cable, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self.cable, "up")


@dataclass(frozen=True, slots=True)
class Network:
    """:param address: of this system, which all machines reach."""

    address: str
    machines: dict[str, Machine]


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """A machine for each name, and this system, on one switch. :raises NoNetwork: they cannot be made."""
    mark, third = secrets.token_hex(3), secrets.randbelow(256)
    subnet, bridge = f"198.18.{third}", f"ljb{mark}"  # RFC 2544: set aside for benchmarks
    made: dict[str, Machine] = {}
    with ExitStack() as undo:
        _ip("link", "add", bridge, "type", "bridge")
        undo.callback(_ip, "link", "delete", bridge)
        _ip("address", "add", f"{subnet}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number, name in enumerate(names, start=11):
            machine = Machine(f"{subnet}.{number}", f"{bridge}-{name}", f"{bridge}{number}")
            _ip("netns", "add", machine.namespace)
            undo.callback(_ip, "netns", "delete", machine.namespace)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", machine.namespace)
            _ip("link", "add", machine.cable, *peer)
            undo.callback(_ip, "link", "delete", machine.cable)  # a guard may hold the namespace for a while
            _ip("link", "set", machine.cable, "master", bridge, "up")
            _ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.namespace, "link", "set", "eth0", "up")
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
            made[name] = machine
        yield Network(f"{subnet}.1", made)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoNetwork(
            f"ip {' '.join(arguments)}: {done.stderr.strip()}; a leader cannot be cut off without that"
        )


def _check(result: int) -> None:
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NoNetwork(f"setns(2): {reason}; nothing can be started on a machine of its own")
