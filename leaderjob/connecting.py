"""Settings become connections: who we are to etcd, and the certificates of our own ports."""

from collections.abc import Callable

from pydantic import SecretStr

from leaderjob.etcd import Etcd, User
from leaderjob.settings import EtcdSettings, TlsSettings
from leaderjob.tls import CertificateFiles


def connect(
    settings: EtcdSettings,
    *,
    call_timeout_s: float = 2.0,
    on_secret: Callable[[str], None] = lambda secret: None,
) -> Etcd:
    """A client as the settings say.

    :param on_secret: told the password whenever it is read.
    :raises SettingsError: a certificate or a password cannot be used.
    """
    return Etcd(
        settings.endpoints,
        call_timeout_s=call_timeout_s,
        certificates=etcd_certificates(settings),
        user=etcd_user(settings, on_secret=on_secret),
        allow_plaintext_password=settings.allow_plaintext_password,
    )


def etcd_certificates(settings: EtcdSettings) -> CertificateFiles | None:
    """None: connections to etcd are not encrypted."""
    return CertificateFiles(settings.ca, settings.cert, settings.key) if settings.uses_tls else None


def etcd_user(
    settings: EtcdSettings, *, on_secret: Callable[[str], None] = lambda secret: None
) -> User | None:
    """None: nobody is named. The password is read when it is needed: mounted secrets are renewed.

    :raises SettingsError: it cannot be read now.
    """
    if settings.username is None:
        return None

    def password() -> str:
        secret = (settings.read_password() or SecretStr("")).get_secret_value()
        on_secret(secret)
        return secret

    password()
    return User(settings.username, password)


def replica_certificates(settings: TlsSettings) -> CertificateFiles | None:
    """Of a replica's ports, and of those who ask there. None: they are not encrypted."""
    return CertificateFiles(settings.ca, settings.cert, settings.key) if settings.enabled else None
