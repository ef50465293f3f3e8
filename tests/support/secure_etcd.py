"""An etcd that encrypts and demands certificates, users or both."""

from collections.abc import Iterator
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.embedded.ports import free_ports
from leaderjob.tls import CertificateFiles
from tests.support.etcd import etcdctl, program
from tests.support.loop import run_async

ROOT_PASSWORD = "of-the-root"


class SecureEtcd(EmbeddedEtcd):
    """Has a second address, ``secure_endpoint``, with TLS; the plain one is there for whoever looks in.

    :param auth_token: what etcd's flag of this name takes: which tokens it gives to users.
    :param demands_certificate: refuse clients without a certificate.
    """

    def __init__(
        self,
        directory: Path,
        certificates: CertificateFiles | None = None,
        *,
        binary: Path | None = None,
        auth_token: str = "simple",
        demands_certificate: bool = True,
    ) -> None:
        super().__init__(directory, binary=binary or program("etcd"), fsync=False)
        self._certificates = certificates
        self._auth_token = auth_token
        self._demands_certificate = demands_certificate
        self._secure_port = free_ports(1)[0]

    @property
    def secure_endpoint(self) -> str:
        return f"127.0.0.1:{self._secure_port}"

    def _command(self, client_port: int, peer_port: int) -> list[str]:
        command = [*super()._command(client_port, peer_port), f"--auth-token={self._auth_token}"]
        files = self._certificates
        if files is None:
            return command
        urls = f"http://127.0.0.1:{client_port},https://{self.secure_endpoint}"
        command += [f"--listen-client-urls={urls}", f"--cert-file={files.cert}", f"--key-file={files.key}"]
        if self._demands_certificate:
            command += [f"--trusted-ca-file={files.ca}", "--client-cert-auth"]
        return command

    def enable_users(self) -> None:
        """From now on etcd asks who is there; ``root`` may do everything."""
        etcdctl(self.endpoint, "user", "add", f"root:{ROOT_PASSWORD}")
        etcdctl(self.endpoint, "user", "grant-role", "root", "root")
        etcdctl(self.endpoint, "auth", "enable")

    def as_root(self, *args: str) -> str:
        return etcdctl(self.endpoint, f"--user=root:{ROOT_PASSWORD}", *args)

    def add_user(self, name: str, password: str, *grants: tuple[str, str]) -> None:
        """A user with a role of the same name. :param grants: ("read" | "write" | "readwrite", prefix)."""
        self.as_root("user", "add", f"{name}:{password}")
        self.as_root("role", "add", name)
        for permission, prefix in grants:
            self.as_root("role", "grant-permission", name, permission, prefix, "--prefix")
        self.as_root("user", "grant-role", name, name)


def started(server: SecureEtcd) -> Iterator[SecureEtcd]:
    """For fixtures: it runs while they are suspended."""
    run_async(server.start())
    try:
        yield server
    finally:
        server.kill()
