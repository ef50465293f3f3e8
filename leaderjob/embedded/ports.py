"""Free ports on the loopback interface."""

import random
import socket
from pathlib import Path

from leaderjob.errors import LeaderjobError

_LOWEST = 20_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_LOWEST_EPHEMERAL = 32_768
_TRIES_PER_PORT = 100


class NoFreePort(LeaderjobError):
    """No free port was found on 127.0.0.1; it has next to none left, or may not be bound to."""


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports that nobody listens on at 127.0.0.1 at this moment.

    They lie below the range from which the kernel serves outgoing connections, so that a server can
    be stopped and started again on its port without finding that a client was given it meanwhile.
    Another process can still take one before you do: be ready to try again.

    :raises NoFreePort: none was found.
    """
    highest = _lowest_ephemeral() - 1
    if highest - _LOWEST < 10 * count:  # the kernel was told to use nearly everything: so do we
        lowest, highest = 1024, 65_535
    else:
        lowest = _LOWEST
    chosen: list[int] = []
    for _ in range(_TRIES_PER_PORT * count):
        port = random.randint(lowest, highest)
        if port not in chosen and _is_free(port):
            chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise NoFreePort(
        f"no free port on 127.0.0.1: {_TRIES_PER_PORT * count} ports between {lowest} and {highest} are all "
        "taken or forbidden; end what listens there, or allow this process to bind to 127.0.0.1"
    )


def _lowest_ephemeral() -> int:
    try:
        return int(_EPHEMERAL_RANGE.read_text().split()[0])
    except OSError:  # /proc may be hidden in a sandbox
        return _DEFAULT_LOWEST_EPHEMERAL


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
