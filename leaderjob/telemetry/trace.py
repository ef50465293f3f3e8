"""A traceback that is text to whoever prints it, and still knows its exceptions and frames."""

import traceback
from typing import Self

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from leaderjob.telemetry.raised import describe


class Frame(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    file: str
    line: int
    function: str
    module: str = ""
    code: str = ""


class Raised(BaseModel):
    """One exception. Its frames are in the order of the calls."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    module: str = ""
    message: str = ""
    frames: tuple[Frame, ...] = ()


_CHAIN = TypeAdapter(tuple[Raised, ...])


class Trace(str):
    """The text of a traceback; ``exceptions`` are its causes, the one that was raised last."""

    __slots__ = ("exceptions",)

    exceptions: tuple[Raised, ...]

    def __new__(cls, text: str, exceptions: tuple[Raised, ...] = ()) -> Self:
        trace = super().__new__(cls, text)
        trace.exceptions = exceptions
        return trace

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """That of an exception of this process."""
        text = "".join(traceback.format_exception(error))
        return cls(text, _CHAIN.validate_python(describe(error, error.__traceback__)))

    @classmethod
    def told(cls, text: object, exceptions: object) -> Self | None:
        """What another process told; None without a text. What is not as it should be costs the frames only."""
        if not isinstance(text, str):
            return None
        try:
            return cls(text, _CHAIN.validate_python(exceptions))
        except ValidationError:
            return cls(text)
