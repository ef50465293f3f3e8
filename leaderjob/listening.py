"""Where a replica listens, and what others are told."""

import ipaddress
from dataclasses import dataclass

from leaderjob.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Listening:
    """The address to bind to, and the host that others are told."""

    host: str
    port: int
    advertised_host: str
    advertised_port: int | None

    @property
    def bind(self) -> str:
        return join(self.host, self.port)

    def advertise(self, port: int) -> str:
        """How others reach the main port, when it is bound to ``port``."""
        return join(self.advertised_host, self.advertised_port or port)


def plan_listening(listen: str, advertise: str | None, *, insecure: bool) -> Listening:
    """:raises SettingsError: an address is none, or is open to others although nothing is encrypted."""
    host, port = split("listen", listen)
    if not insecure and not _is_loopback(host):
        raise SettingsError(
            f"listen address {listen} is not a loopback address, and nothing is encrypted: "
            "anybody who reaches it could query this replica. Say --insecure if the network is yours alone"
        )
    if advertise is None:
        if host in ("0.0.0.0", "::"):
            raise SettingsError(
                f"listen address {listen} is every address of this host: say with --advertise which others use"
            )
        return Listening(host, port, host, None)
    advertised_host, advertised_port = split("advertise", advertise)
    return Listening(host, port, advertised_host, advertised_port or None)


def split(setting: str, address: str) -> tuple[str, int]:
    """``HOST:PORT`` apart. :raises SettingsError: it is not that."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"{setting} address {address!r} is not HOST:PORT")
    return host, int(port)


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
