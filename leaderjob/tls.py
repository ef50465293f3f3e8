"""Certificates in PEM files: read, checked against each other, and read again when the files change.

What gRPC says of a key that does not fit its certificate is a failed handshake, minutes later and on the
other side. So files are checked here, by OpenSSL, before anybody uses them.
"""

import os
import re
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from leaderjob.errors import SettingsError
from leaderjob.telemetry.events import Events, emit

T = TypeVar("T")

_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, Red Hat
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, the BSDs
)
"""Where systems keep the authorities that they trust. A Python that was built elsewhere looks for them elsewhere."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files say, as it is handed to TLS libraries; None: there is no such file."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificates are.

    :param ca: those that sign the other side's; None means the authorities that the system trusts.
    :param cert: our own, with those between it and the authority; with ``key``, or not at all.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def read(self) -> Pem:
        """:raises SettingsError: a file cannot be read, is none of its kind, or does not fit the others."""
        if (self.cert is None) != (self.key is None):
            raise SettingsError(
                "a certificate needs its key, and a key its certificate: give both or neither"
            )
        pem = Pem(*(_content(path) for path in (self.ca, self.cert, self.key)))
        if self.ca is not None:
            try:
                ssl.create_default_context(cafile=self.ca)
            except ssl.SSLError as error:
                raise SettingsError(f"{self.ca} has no certificate of an authority in PEM form") from error
        if self.cert is not None and self.key is not None:
            _check_pair(self.cert, self.key)
        return pem

    def read_for_client(self) -> Pem:
        """As :meth:`read`, and where there is no ``ca``, with the authorities that the system trusts: gRPC would take
        a list of its own. :raises SettingsError: see there; or this system has no authorities."""
        pem = self.read()
        return pem if pem.ca is not None else replace(pem, ca=system_authorities())

    def client_context(self) -> ssl.SSLContext:
        """For connections that we open. :raises SettingsError: see :meth:`read_for_client`."""
        authorities = self.read_for_client().ca or b""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=_certificates(authorities))
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def server_context(self) -> ssl.SSLContext:
        """For connections that others open. A client's certificate is asked for and checked if there is one:
        who may come without is for the caller to say. :raises SettingsError: see :meth:`read`."""
        self.read()
        if self.cert is None:
            raise SettingsError("who listens with TLS needs a certificate and its key")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(self.cert, self.key)
        return context

    def check_among_peers(self, host: str) -> datetime:
        """Whether another replica, with files of the same authority, would accept these: a handshake with ourselves,
        in memory, both sides showing the certificate. Returns until when they are good.

        :param host: what the others call this replica.
        :raises SettingsError: they would not: it has run out, another authority signed it, or it is for another name.
        """
        client, server = self.client_context(), self.server_context()
        server.verify_mode = ssl.CERT_REQUIRED
        sent, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
        caller = client.wrap_bio(answered, sent, server_hostname=host)
        called = server.wrap_bio(sent, answered, server_side=True)
        try:
            for side in (caller, called, caller, called):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise SettingsError(
                f"the other replicas, which know this one as {host}, would refuse its certificate {self.cert}: "
                f"{error.verify_message.rstrip('.')}. Give one for that name, signed by an authority in {self.ca}"
            ) from error
        shown = caller.getpeercert() or {}
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(shown["notAfter"])), UTC)

    def stamp(self) -> tuple[tuple[int, int] | None, ...]:
        """Another value when a file was exchanged. One that is missing just now has None."""
        authorities = self.ca or _system_bundle()
        return tuple(_stamp(path) for path in (authorities, self.cert, self.key) if path is not None)


class Fresh(Generic[T]):
    """What is made of certificate files, made again once they have changed: certificates run out.

    What does not fit together, as between the exchange of a certificate and that of its key, is passed
    over, and what was made of the former ones stays in use. For any thread.

    :param make: :meth:`CertificateFiles.read`, say.
    :raises SettingsError: from the start the files cannot be used.
    """

    def __init__(self, files: CertificateFiles, make: Callable[[CertificateFiles], T]) -> None:
        self.files = files
        self._make = make
        self._lock = threading.Lock()
        self._stamp = files.stamp()
        self._made = make(files)

    def get(self) -> T:
        """The same object as before, unless the files have changed."""
        with self._lock:
            stamp = self.files.stamp()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._made = self._make(self.files)
                except SettingsError as error:
                    emit(Events.CERTIFICATES_REFUSED, reason=error)
                else:
                    emit(Events.CERTIFICATES_CHANGED, certificate=self.files.cert or self.files.ca)
            return self._made


def system_authorities() -> bytes:
    """The certificates (PEM) of the authorities that this system trusts: those in ``SSL_CERT_FILE`` or
    ``SSL_CERT_DIR`` where these variables are set, as OpenSSL has it.

    :raises SettingsError: there are none.
    """
    bundle = _system_bundle()
    if bundle is not None:
        where, files = str(bundle), [bundle]
    else:
        directory = ssl.get_default_verify_paths().capath
        where, files = str(directory), sorted(Path(directory).glob("*")) if directory else []
    try:
        found = b"\n".join(_certificates(file.read_bytes()).encode() for file in files if file.is_file())
    except OSError as error:
        raise SettingsError(f"{error.filename} cannot be read: {error.strerror}") from error
    if not found.strip():
        raise SettingsError(
            f"this system has no certificates of authorities ({where} has none): install ca-certificates, set "
            "SSL_CERT_FILE, or give ca, the certificate of the authority that signed the server's"
        )
    return found


def _system_bundle() -> Path | None:
    """The file with the system's authorities; None: they are in a directory, or there are none."""
    set_file = os.environ.get("SSL_CERT_FILE")
    if set_file:
        return Path(set_file)
    if os.environ.get("SSL_CERT_DIR"):
        return None
    default = ssl.get_default_verify_paths().cafile
    return next((Path(path) for path in (default, *_SYSTEM_BUNDLES) if path and Path(path).is_file()), None)


def _certificates(pem: bytes) -> str:
    """The certificates alone: comments beside them need not be ASCII."""
    return "\n".join(found.decode("ascii") for found in _CERTIFICATE.findall(pem))


def _content(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error


def _check_pair(cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(cert, key, password=_no_password(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise SettingsError(f"the key {key} does not belong to the certificate {cert}") from error
        raise SettingsError(f"{cert} and {key} are not a certificate and its key in PEM form") from error


def _no_password(key: Path) -> Callable[[], str]:
    def ask() -> str:  # instead of OpenSSL, which would ask on the terminal
        raise SettingsError(
            f"the key {key} is encrypted: give one without a password, readable by this user only"
        )

    return ask


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
