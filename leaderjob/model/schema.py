"""The layout of all keys of a namespace, by a number."""

from typing import Annotated

from pydantic import ConfigDict, Field

from leaderjob.model.record import Record

READS_SCHEMA = 1
"""The newest layout of keys that this release reads."""


class Schema(Record):
    """``meta/schema``: which layout the keys have. Without it, the first one."""

    model_config = ConfigDict(populate_by_name=True)

    number: Annotated[int, Field(ge=1, alias="schema")]
