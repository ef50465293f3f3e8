"""Certificate authorities, and the files that they issue."""

from datetime import datetime
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from leaderjob.tls import CertificateFiles


class Authority:
    """A certificate authority with files, as an operator has one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(
        self, name: str, *identities: str, good_until: datetime | None = None, by: "Authority | None" = None
    ) -> CertificateFiles:
        """A certificate for these names and addresses; a second one of the same name takes its place.

        :param by: another authority that signs it, though the files say that it was this one.
        """
        signing = (by or self)._authority
        made = signing.issue_cert(
            *(identities or ("localhost", "127.0.0.1")), common_name=name, not_after=good_until
        )
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        made.private_key_pem.write_to_path(key)
        return CertificateFiles(self.ca, cert, key)

    def public_key(self, pair: CertificateFiles) -> Path:
        """The public half of its key (of an elliptic curve, P-256), in a file of its own."""
        assert pair.key is not None
        key = load_pem_private_key(pair.key.read_bytes(), password=None).public_key()
        public = pair.key.with_suffix(".pub")
        public.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return public
