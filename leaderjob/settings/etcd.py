"""The group ``etcd``."""

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from leaderjob.endpoints import parse_endpoints, refuse_plaintext_password
from leaderjob.errors import SettingsError
from leaderjob.settings.group import Group
from leaderjob.settings.values import Endpoints, ExistingFile, Name, check_not_empty, read_secret


class EtcdSettings(Group):
    """Where etcd is, what in it is ours, and how it knows us."""

    endpoints: Endpoints = Field(default=(), examples=[["127.0.0.1:2379"]])
    """The endpoints, which are tried in turn: `HOST:PORT`, `http://HOST:PORT`, `https://HOST:PORT` or
    `unix:///PATH` each. If one says `https://`, connections to all of them are encrypted."""
    namespace: Name = "default"
    """All keys are below `/leaderjob/<namespace>/`: one namespace is one cluster of replicas."""
    tls: bool | None = Field(default=None, examples=[True])
    """Encrypt; by default when an endpoint says `https://`, or `ca` or `cert` is set."""
    ca: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/etcd-ca.pem"])
    """The certificates (PEM) of the authorities that etcd's own is checked with; by default the system's."""
    cert: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/etcd-client.pem"])
    """The certificate (PEM) that we show to etcd, for mutual TLS; needs `key`."""
    key: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/etcd-client-key.pem"])
    """The private key (PEM) of `cert`."""
    username: str | None = Field(default=None, min_length=1, examples=["leaderjob"])
    """The user of etcd, where it asks for a password."""
    password: Annotated[SecretStr, AfterValidator(check_not_empty)] | None = Field(
        default=None, examples=["better in password_file"]
    )
    """The user's password. Better in `password_file`: settings files and variables are seen by others."""
    password_file: ExistingFile | None = Field(default=None, examples=["/run/secrets/etcd-password"])
    """A file that holds the password and nothing else, such as a mounted secret."""
    allow_plaintext_password: bool = False
    """Send the password unencrypted over a network, too. By default it is only sent over TLS, to loopback addresses
    and to Unix sockets."""

    @property
    def uses_tls(self) -> bool:
        """Whether connections to etcd are encrypted."""
        if self.tls is not None:
            return self.tls
        return self._some("https://") or self.ca is not None or self.cert is not None

    def read_password(self) -> SecretStr | None:
        """The password; None without one. Read from the file at each call: mounted secrets are renewed.

        :raises SettingsError: the file cannot be read, or is empty.
        """
        if self.password_file is not None:
            return read_secret("etcd.password_file", self.password_file)
        return self.password

    def in_force(self) -> dict[str, Any]:
        return super().in_force() | {"tls": self.uses_tls}

    def _some(self, scheme: str) -> bool:
        return any(endpoint.startswith(scheme) for endpoint in self.endpoints)

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ValueError(f"{given} is set without {missing}: a client certificate needs both")
        for plain in ("http://", "unix://"):
            if self._some(plain) and self.uses_tls:
                raise ValueError(
                    f"the endpoints say {plain}, but tls, ca or cert asks for TLS: write https://"
                )
        if self.tls is False and (self._some("https://") or self.ca or self.cert):
            raise ValueError("tls is false, but an endpoint says https://, or ca or cert is set: remove one")
        return self

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("both password and password_file are set (each may come from another source)")
        has_password = self.password is not None or self.password_file is not None
        if self.username is not None and not has_password:
            raise ValueError("username is set without a password: set password_file or password")
        if has_password and self.username is None:
            raise ValueError("a password is set without username")
        if has_password and not self.uses_tls and not self.allow_plaintext_password:
            try:
                refuse_plaintext_password(parse_endpoints(self.endpoints))
            except SettingsError as error:
                raise ValueError(str(error)) from None
        return self
