"""What every stored value has in common: frozen, versioned, strict about what it knows.

Releases can be mixed during a rolling upgrade. A field that a newer release added is kept, through every change of the
record, and not used. A record of a newer format (``v``), or with a value that only a newer release knows, is left alone.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

FORMAT = 1
"""The newest format of records that this release knows."""

_NEWER = "newer_format"


class Record(BaseModel):
    """A value stored under our prefix, as JSON that people can read with ``etcdctl``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    v: int = FORMAT

    @field_validator("v")
    @classmethod
    def _known(cls, v: int) -> int:
        if v < 1:
            raise ValueError("formats are numbered from 1")
        if v > FORMAT:
            raise PydanticCustomError(
                _NEWER, "it has format {found}, and this release knows {known}", {"found": v, "known": FORMAT}
            )
        return v

    def to_bytes(self) -> bytes:
        return self.model_dump_json(exclude_none=True, by_alias=True).encode()

    @classmethod
    def from_bytes(cls, value: bytes) -> Self:
        """:raises pydantic.ValidationError: the bytes are not such a record; see :func:`is_of_newer_release`."""
        return cls.model_validate_json(value)


def is_of_newer_release(error: ValidationError) -> bool:
    """Whether a record is refused for nothing but what a newer release may write: its format, or the value of a choice."""
    problems = error.errors(include_url=False)
    return any(problem["type"] == _NEWER for problem in problems) or all(map(_is_unknown_choice, problems))


def _is_unknown_choice(problem: Any) -> bool:
    return problem["type"] == "enum" and isinstance(problem["input"], str)
