"""What worker processes say, as the replica reads it. Job code shares their process, so any of it may be wrong."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from leaderjob.errors import LeaderjobError
from leaderjob.execution.protocol import LONGEST_DELAY_S, TEXT_LIMIT_CHARS
from leaderjob.json_text import ANSWER_LIMIT_BYTES, RESULT_LIMIT_BYTES, check
from leaderjob.sdk import Json

MessageT = TypeVar("MessageT")


class ProtocolBroken(LeaderjobError):
    """A worker sent something that is not a message: job code wrote to a descriptor that is not its own."""


def _within(limit_bytes: int) -> AfterValidator:
    def checked(value: Any) -> Any:
        check(value, limit_bytes)
        return value

    return AfterValidator(checked)


Text = Annotated[str, Field(max_length=TEXT_LIMIT_CHARS)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Traced(_Message):
    """:ivar exceptions: as ``telemetry/raised.py`` describes them."""

    reason: Text
    traceback: str | None = None
    exceptions: Any = ()


class ProgressMade(_Message):
    type: Literal["progress"]
    done: FiniteFloat
    total: FiniteFloat
    message: Text


class Returned(_Message):
    type: Literal["end"]
    kind: Literal["returned"]
    stopping: bool
    value: Annotated[Any, _within(RESULT_LIMIT_BYTES)]


class Raised(_Traced):
    type: Literal["end"]
    kind: Literal["raised", "permanent"]
    stopping: bool


class AsksToRetry(_Traced):
    type: Literal["end"]
    kind: Literal["retry_later"]
    stopping: bool
    delay_s: Annotated[float, Field(ge=0, le=LONGEST_DELAY_S)]


class CameLate(_Message):
    type: Literal["end"]
    kind: Literal["late"]
    stopping: bool


class Ready(_Message):
    type: Literal["ready"]


class Closed(_Traced):
    type: Literal["closed"]


class Answer(_Message):
    type: Literal["answer"]
    id: int
    value: Annotated[Any, _within(ANSWER_LIMIT_BYTES)]


class Bad(_Message):
    type: Literal["bad"]
    id: int
    reason: Text


class Failed(_Traced):
    type: Literal["error"]
    id: int


End = Returned | Raised | AsksToRetry | CameLate
_END = Annotated[End, Field(discriminator="kind")]
WORKER: TypeAdapter[ProgressMade | End] = TypeAdapter(
    Annotated[ProgressMade | _END, Field(discriminator="type")]
)
QUERY_WORKER: TypeAdapter[Ready | Closed | Answer | Bad | Failed] = TypeAdapter(
    Annotated[Ready | Closed | Answer | Bad | Failed, Field(discriminator="type")]
)


def read(kinds: TypeAdapter[MessageT], message: dict[str, Json]) -> MessageT:
    """:raises ProtocolBroken: it is none of these messages."""
    try:
        return kinds.validate_python(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ProtocolBroken(
            f"a message that is not one of its messages: {where + ': ' if where else ''}{first['msg']}"
        ) from error
