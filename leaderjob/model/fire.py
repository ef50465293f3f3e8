"""One due instant of a job."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Fire:
    job: str
    at: datetime
