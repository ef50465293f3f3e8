"""What a test needs of the machine beyond Python, looked for once: ``@needs("promtool")``.

Where something is missing, a test is skipped with the Debian package that has it, or uses what is there.
With all of it installed nothing is skipped; continuous integration fails every skip.
"""

import os
import shutil
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {
    "bash": "bash",
    "fsfreeze": "util-linux",
    "ip": "iproute2",
    "iptables-restore": "iptables",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "promtool": "prometheus",
    "ss": "iproute2",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""Programs that tests run, and the Debian package of each."""

_STATUS = Path("/proc/self/status")
_NET_ADMIN, _SYS_ADMIN = 12, 21  # numbers of capabilities, see linux/capability.h


def needs(*wanted: str) -> pytest.MarkDecorator:
    """Skip the test, with the reason, unless all of this is there.

    :param wanted: programs, each one that :data:`PACKAGES` lists, or names of other things that a machine
        may lack: ``machines`` and ``disks`` (of the test's own), ``faketime``, ``ipv6``.
    """
    lacking = [reason for name in wanted if (reason := missing(name)) is not None]
    return pytest.mark.skipif(bool(lacking), reason="; ".join(dict.fromkeys(lacking)))


@cache
def missing(name: str) -> str | None:
    """Why a test that needs this cannot run here, or None if it can."""
    if name in _OTHERS:
        return _OTHERS[name]()
    package = PACKAGES[name]
    return None if shutil.which(name) else f"{name} is not installed (Debian: apt install {package})"


def _first_missing(*names: str) -> str | None:
    return next((reason for name in names if (reason := missing(name)) is not None), None)


def _machines() -> str | None:
    """Network namespaces, a packet filter in each, and what is mounted for one machine alone."""
    if not _may(_NET_ADMIN, _SYS_ADMIN):
        return "network namespaces need root with CAP_NET_ADMIN and CAP_SYS_ADMIN"
    return _first_missing("ip", "ss", "iptables-restore", "mount", "unshare", "nsenter")


def _disks() -> str | None:
    """Filesystems in files, which can be frozen."""
    if not _may(_SYS_ADMIN):
        return "mounting a filesystem needs root with CAP_SYS_ADMIN"
    if not Path("/dev/loop-control").exists():
        return "mounting a file needs loop devices, and there is no /dev/loop-control"
    return _first_missing("mkfs.ext4", "losetup", "mount", "fsfreeze")


def _faketime() -> str | None:
    if faketime_library() is None:
        return "setting the clock of a process needs libfaketime (Debian: apt install libfaketime)"
    return None


def faketime_library() -> Path | None:
    """What is loaded into a process to set its clock."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def _ipv6() -> str | None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return f"this machine has no IPv6 loopback: {error}"
    return None


_OTHERS: dict[str, Callable[[], str | None]] = {
    "disks": _disks,
    "faketime": _faketime,
    "ipv6": _ipv6,
    "machines": _machines,
}


def _may(*capabilities: int) -> bool:
    """Whether this process is root and has these capabilities, which root in a container may lack."""
    if os.geteuid() != 0:
        return False
    lines = _STATUS.read_text(encoding="utf-8").splitlines()
    effective = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    return all(effective >> capability & 1 for capability in capabilities)
