"""The endpoints of etcd, parsed in one place for the library, the settings and the command line.

An error quotes what was given, but never a password in it.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from leaderjob.errors import SettingsError
from leaderjob.tls import CertificateFiles

_FORMS = "write HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix:///PATH"
_USUAL_PORT = "etcd listens for clients on port 2379 by default"
_MAX_PORT = 65_535
_MAX_QUOTED = 100
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_PORT = re.compile(r"[0-9]{1,5}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# As it is, percent-encoded once or more often, and as other characters of Unicode that mean the same.
_AT = re.compile(r".*(?:[@\uff20\ufe6b]|%(?:25)*40)", re.DOTALL)
# Half of a list that was split at a comma within a password has no "@": what is neither a port nor IPv6 may be secret.
_NO_PORT = re.compile(
    r"((?:[A-Za-z][A-Za-z0-9+.-]*://)?[^:]*:)(?!//|[0-9]{1,5}(?![^/?#,])|[0-9A-Fa-f:.]*:).{2,}", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member of etcd, or a proxy in front of it.

    :param scheme: ``http``, ``https`` or ``unix``; empty where none was given.
    :param address: ``HOST:PORT`` (``[HOST]:PORT`` for IPv6), or ``unix:///PATH``: what gRPC connects to.
    """

    scheme: str
    address: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}" if self.scheme in ("http", "https") else self.address

    @property
    def is_local(self) -> bool:
        """Whether what is sent there stays on this machine, as far as the text alone can tell."""
        if self.scheme == "unix":
            return True
        host = self.address.rpartition(":")[0]
        if host.lower() == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback


def parse_endpoints(texts: Sequence[str]) -> tuple[Endpoint, ...]:
    """Each once. If one says ``https://``, so do those without a scheme.

    :raises SettingsError: one is not an endpoint, or they contradict each other.
    """
    if isinstance(texts, (str, bytes)):
        raise SettingsError("the etcd endpoints are one string: give a list, one endpoint in each element")
    parsed = [parse_endpoint(text) for text in texts]
    schemes = {endpoint.scheme for endpoint in parsed}
    if {"http", "https"} <= schemes:
        raise SettingsError("some endpoints say http:// and some https://: use one for all of them")
    if "https" in schemes:
        if "unix" in schemes:
            raise SettingsError(
                "some endpoints say https://, and some are Unix sockets, which are not encrypted"
            )
        parsed = [Endpoint("https", endpoint.address) for endpoint in parsed]
    return tuple({endpoint.address: endpoint for endpoint in parsed}.values())


def parse_endpoint(text: str) -> Endpoint:
    """:raises SettingsError: ``text`` is not an endpoint; the message says what is wrong with it."""
    if not isinstance(text, str):
        raise SettingsError(f"an etcd endpoint is a string, not of type {type(text).__name__}: {_FORMS}")
    stripped = text.strip(" \t\r\n")
    if holds_user(stripped):
        raise _invalid(
            text, "holds a user or a password", "give those by themselves, as username and password"
        )
    if any(not character.isprintable() for character in stripped):
        raise _invalid(text, "holds characters that cannot be printed")
    if "," in stripped:
        raise _invalid(text, "holds a comma", "give a list, one endpoint in each element")
    scheme, rest = "", stripped
    if found := _SCHEME.fullmatch(stripped):
        scheme, rest = found[1].lower(), found[2]
    if scheme == "unix" or (not scheme and rest.lower().startswith("unix:")):
        return _unix(text, rest if scheme else "")
    if scheme not in ("", "http", "https"):
        raise _invalid(text, f"has the unknown scheme {scheme}://")
    rest = rest.rstrip("/")
    if any(mark in rest for mark in "/?#\\"):
        raise _invalid(text, "has more behind the port than an endpoint may have")
    return Endpoint(scheme, _host_and_port(text, rest))


def holds_user(text: str) -> bool:
    """Whether there is a user or a password in ``text``, which must then be neither split nor quoted."""
    return _AT.match(text) is not None


def choose_certificates(
    endpoints: Sequence[Endpoint], certificates: CertificateFiles | None
) -> CertificateFiles | None:
    """What connections to ``endpoints`` are encrypted with; None: they are not encrypted.

    :raises SettingsError: certificates are given, but an endpoint asks for no encryption.
    """
    if certificates is None:
        return CertificateFiles() if any(endpoint.scheme == "https" for endpoint in endpoints) else None
    for endpoint in endpoints:
        if endpoint.scheme in ("http", "unix"):
            raise SettingsError(
                f"certificates are given, but connections to {endpoint} are not encrypted: "
                "write https://, or give no certificates"
            )
    return certificates


def refuse_plaintext_password(endpoints: Sequence[Endpoint]) -> None:
    """:raises SettingsError: a password sent to one of ``endpoints`` would leave this machine unencrypted."""
    for endpoint in endpoints:
        if endpoint.scheme != "https" and not endpoint.is_local:
            raise SettingsError(
                f"the password would be sent to etcd at {endpoint.address} unencrypted, so anybody on the network could "
                "read it: write https:// (with ca, unless this system trusts the authority that signed etcd's "
                "certificate), or set allow_plaintext_password if the network is to be trusted with it"
            )


def _unix(text: str, path: str) -> Endpoint:
    if not path.startswith("/") or path.endswith("/") or any(mark in path for mark in "?#%\0"):
        raise _invalid(text, "does not name a Unix socket by its absolute path", "write unix:///PATH")
    return Endpoint("unix", f"unix://{path}")


def _host_and_port(text: str, rest: str) -> str:
    if rest.startswith("["):
        host, bracket, port = rest.partition("]")
        if not bracket or not _is_ipv6(host[1:]):
            raise _invalid(text, "has no IPv6 address in its brackets", "write [ADDRESS]:PORT")
        host += bracket
        if not port.startswith(":"):
            raise _invalid(text, "has no port", _USUAL_PORT)
        port = port[1:]
    else:
        host, colon, port = rest.rpartition(":")
        if not colon:
            raise _invalid(text, "has no port", _USUAL_PORT)
        if ":" in host:
            raise _invalid(text, "has several colons", _brackets(rest, host, port))
        if not _HOST.fullmatch(host):
            raise _invalid(text, "has no host name or address" if host else "has no host")
    if not _PORT.fullmatch(port) or not 0 < int(port) <= _MAX_PORT:
        raise _invalid(text, f"has no port from 1 to {_MAX_PORT}", _USUAL_PORT)
    return f"{host}:{port}"


def _brackets(rest: str, host: str, port: str) -> str:
    if _is_ipv6(host):
        return f"an IPv6 address goes in brackets: write [{host}]:{port}"
    if _is_ipv6(rest):
        return f"an IPv6 address goes in brackets, and the port behind them: write [{rest}]:2379"
    return _FORMS


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _invalid(text: str, fault: str, remedy: str = _FORMS) -> SettingsError:
    return SettingsError(f"etcd endpoint {_quoted(text)} {fault}: {remedy}")


def _quoted(text: str) -> str:
    """``text`` as an error shows it: without what may be a password, and not at any length."""
    shown = _AT.sub("***@", text)
    shown = _NO_PORT.sub(r"\1***", shown)
    shown = re.sub(r"([?#]).*", r"\1***", shown, flags=re.DOTALL)
    return repr(shown if len(shown) <= _MAX_QUOTED else shown[:_MAX_QUOTED] + "…")
