"""What can be overridden for one job, whether settings or the dynamic configuration say so."""

from typing import Annotated

from pydantic import Field

from leaderjob.settings.group import Group
from leaderjob.settings.values import ONE_OR_SEVERAL, JobParams, Seconds


class JobOverride(Group):
    """What is different for one job from what its module says."""

    schedule: Annotated[tuple[str, ...], ONE_OR_SEVERAL] | None = Field(default=None, examples=["every 5m"])
    """The schedule; an empty one means that it only runs when triggered."""
    timeout: Annotated[Seconds, Field(gt=0)] | None = Field(default=None, examples=["10m"])
    """How long one attempt may take."""
    params: JobParams = Field(default={}, examples=[{"name": "you"}])
    """Values for the job's parameters."""
