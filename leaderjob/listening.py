"""Where a replica listens, and what others are told."""

import ipaddress
import re
from dataclasses import dataclass

from leaderjob.errors import SettingsError

_PORT = re.compile("[0-9]{1,5}")


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
        """How others reach this port, when it is bound to ``port``."""
        return join(self.advertised_host, self.advertised_port or port)


def plan_listening(listen: str, advertise: str | None, *, open_to_all: bool) -> Listening:
    """Where queries are answered.

    :param open_to_all: other than loopback addresses are fine: it is encrypted, or somebody takes the risk.
    :raises SettingsError: an address is none, or is open to others although nothing is encrypted.
    """
    host, port = split("listen", listen)
    _refuse_open("listen", listen, host, "query this replica", open_to_all=open_to_all)
    if advertise is None:
        _refuse_unspecified("listen", listen, host)
        return Listening(host, port, host, None)
    advertised_host, advertised_port = split("advertise", advertise)
    if _is_unspecified(advertised_host):
        raise SettingsError(
            f"advertise address {advertise} is no address that others could use: name one that leads here"
        )
    return Listening(host, port, advertised_host, advertised_port or None)


def plan_http(
    listen_http: str | None, advertise: str | None, *, main: Listening, open_to_all: bool
) -> Listening:
    """Where published files are handed out: as ``replica.listen_http`` says, else beside ``main``.

    Others are told the host of ``advertise`` for this port too, else the one that it is bound to.

    :raises SettingsError: as :func:`plan_listening`.
    """
    if listen_http is None:
        return Listening(main.host, 0, main.advertised_host, None)
    setting = "replica.listen_http"
    host, port = split(setting, listen_http)
    _refuse_open(setting, listen_http, host, "fetch what it publishes", open_to_all=open_to_all)
    if advertise is None:
        _refuse_unspecified(setting, listen_http, host)
        return Listening(host, port, host, None)
    return Listening(host, port, main.advertised_host, None)


def split(setting: str, address: str) -> tuple[str, int]:
    """``HOST:PORT`` apart. :raises SettingsError: it is not that."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not _PORT.fullmatch(port) or int(port) > 65535:
        raise SettingsError(f"{setting} address {address!r} is not HOST:PORT")
    return host, int(port)


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse_open(setting: str, address: str, host: str, danger: str, *, open_to_all: bool) -> None:
    if not open_to_all and not _is_loopback(host):
        raise SettingsError(
            f"{setting} address {address} is not a loopback address, and nothing is encrypted: "
            f"anybody who reaches it could {danger}. Set tls.cert, tls.key and tls.ca, or say --insecure if the "
            "network is yours alone"
        )


def _refuse_unspecified(setting: str, address: str, host: str) -> None:
    if _is_unspecified(host):
        raise SettingsError(
            f"{setting} address {address} is every address of this host: say with --advertise which others use"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_unspecified(host: str) -> bool:
    """Whether it stands for all addresses, however it is written (``0.0.0.0``, ``::``, ``0:0::0``)."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
