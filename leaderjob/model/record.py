"""What every stored value has in common: frozen, versioned, strict about what it knows, and tolerant
of fields that a newer release added, so that releases can be mixed during a rolling upgrade."""

from typing import Self

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A value stored under our prefix, as JSON that people can read with ``etcdctl``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: int = 1

    def to_bytes(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """:raises pydantic.ValidationError: the bytes are not such a record."""
        return cls.model_validate_json(value)
