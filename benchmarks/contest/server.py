"""What an etcd server says of itself."""

import asyncio
import http.client
import re
from collections import Counter

_TIMEOUT_S = 10.0
_STARTED = re.compile(r'^grpc_server_started_total\{grpc_method="(\w+)".*\} (\S+)$', re.MULTILINE)
_WATCHERS = re.compile(r"^etcd_debugging_mvcc_watcher_total (\S+)$", re.MULTILINE)


async def watchers(endpoint: str) -> int:
    """How many watches there are on the server."""
    (count,) = _WATCHERS.findall(await _metrics(endpoint))
    return int(float(count))


async def started(endpoint: str) -> Counter[str]:
    """Calls and streams that the server has begun since its start, per method."""
    found = _STARTED.findall(await _metrics(endpoint))
    return Counter({method: int(float(count)) for method, count in found})


async def _metrics(endpoint: str) -> str:
    return await asyncio.to_thread(_fetch_metrics, endpoint)


def _fetch_metrics(endpoint: str) -> str:
    connection = http.client.HTTPConnection(endpoint, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()
