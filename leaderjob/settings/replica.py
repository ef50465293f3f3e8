"""The groups ``replica`` and ``tls``: this process, and its ports."""

import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from leaderjob.settings.group import Group
from leaderjob.settings.values import ExistingFile, Folder, Name


def _default_id() -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower())
    return plain[:120].strip("-") or "replica"


class ReplicaSettings(Group):
    """This replica."""

    id: Name = Field(default_factory=_default_id, examples=["r1"])
    """Its name, stable across restarts; by default the host's."""
    state_dir: Folder | None = Field(default=None, examples=["/var/lib/leaderjob"])
    """Where it keeps what it serves; by default below the user's state folder."""
    listen: str = "127.0.0.1:0"
    """Where it answers queries (gRPC). Port 0 takes a free one."""
    listen_http: str | None = Field(default=None, examples=["127.0.0.1:8080"])
    """Where it hands out published files; by default the same host and a free port."""
    liveness_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Where it tells the other replicas that its process is there, on the host of `listen` and never encrypted. Port 0
    takes a free one; give one that a firewall can let through."""
    advertise: str | None = Field(default=None, examples=["replica-1.example.com:7070"])
    """The address at which others reach `listen`, where that differs."""
    priority: Literal["preferred", "ordinary", "observer"] = "ordinary"
    """Whether it leads: `ordinary`; `preferred`: others hand office over to it when they have no run under way;
    `observer`: never, it only serves."""
    insecure: bool = False
    """Listen on other than loopback addresses although nothing is encrypted."""


class TlsSettings(Group):
    """Mutual TLS on this replica's own ports, between replicas and for their clients: all three or none."""

    cert: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/replica.pem"])
    """The certificate (PEM) that this replica shows."""
    key: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/replica-key.pem"])
    """The private key (PEM) of `cert`."""
    ca: ExistingFile | None = Field(default=None, examples=["/etc/leaderjob/ca.pem"])
    """The certificates (PEM) of the authorities that the others' certificates are checked with."""

    @property
    def enabled(self) -> bool:
        """Whether the replica's ports are encrypted."""
        return self.cert is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        files: dict[str, Path | None] = {name: getattr(self, name) for name in type(self).model_fields}
        missing = [name for name, path in files.items() if path is None]
        if 0 < len(missing) < len(files):
            raise ValueError(
                f"{' and '.join(missing)} must be set too: mutual TLS needs cert, key and ca, or none of them"
            )
        return self
