"""leaderjob: a leader-elected singleton job runner on etcd.

The names that a job author and a client need are re-exported here, each imported when it is first
used: a worker process that says ``from leaderjob import job`` loads the SDK and nothing else of ours.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from leaderjob.version import __version__

if TYPE_CHECKING:
    from leaderjob.client import Client as Client
    from leaderjob.errors import LeaderjobError as LeaderjobError
    from leaderjob.sdk import BadQuery as BadQuery
    from leaderjob.sdk import JobContext as JobContext
    from leaderjob.sdk import Permanent as Permanent
    from leaderjob.sdk import RetryLater as RetryLater
    from leaderjob.sdk import job as job

_HOMES = {
    "BadQuery": "leaderjob.sdk",
    "Client": "leaderjob.client",
    "JobContext": "leaderjob.sdk",
    "LeaderjobError": "leaderjob.errors",
    "Permanent": "leaderjob.sdk",
    "RetryLater": "leaderjob.sdk",
    "job": "leaderjob.sdk",
}

__all__ = [
    "BadQuery",
    "Client",
    "JobContext",
    "LeaderjobError",
    "Permanent",
    "RetryLater",
    "__version__",
    "job",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'leaderjob' has no attribute {name!r}")
    return getattr(import_module(home), name)
