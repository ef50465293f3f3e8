"""A query to a replica, and its answer, as they travel over gRPC: JSON in UTF-8."""

from typing import Any

from leaderjob.model.record import Record

SERVICE = "leaderjob.v1.Replica"
QUERY_METHOD = "Query"


class Query(Record):
    """``fields`` are the keyword arguments of what the job's opener returned."""

    job: str
    fields: dict[str, Any]


class Answer(Record):
    """Which replica answered, from which version, and what; null is an answer like any other."""

    replica: str
    job: str
    version: int
    value: Any = None
