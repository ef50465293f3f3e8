"""``etcd3gw``: JSON over HTTP/1.1 to the gateway that etcd has inside, blocking."""

import base64
from typing import Any

import requests
import requests.adapters
from etcd3gw.client import Etcd3Client  # type: ignore[import-not-found]

from contest.peers.in_threads import BlockingClient, answer_turns
from contest.peers.tally import Told
from contest.turns import TIMEOUT_S

_CONNECTIONS = 64


class WithEtcd3gw:
    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, key: str) -> bytes:
        values = self._client.get(key)
        if not values:
            raise LookupError(key)
        value: bytes = values[0]
        return value

    def put(self, key: str, value: bytes) -> None:
        self._client.put(key, value)

    def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        result = self._client.transaction(
            {
                "compare": [
                    {
                        "key": _base64(fence.encode()),
                        "result": "EQUAL",
                        "target": "CREATE",
                        "create_revision": fence_revision,
                    }
                ],
                "success": [{"request_put": {"key": _base64(key.encode()), "value": _base64(value)}}],
                "failure": [{"request_range": {"key": _base64(fence.encode())}}],
            }
        )
        return bool(result.get("succeeded", False))

    def watch(self, prefix: str, since: int, told: Told) -> None:
        events, cancel = self._client.watch_prefix(prefix, start_revision=since + 1, prev_kv=True)
        try:
            for event in events:
                if told(event["kv"]["value"], _before(event)):
                    return
        finally:
            cancel()


def _before(event: Any) -> bytes | None:
    """It leaves the value before as it came."""
    return base64.b64decode(event["prev_kv"]["value"]) if "prev_kv" in event else None


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def connect(host: str, port: int) -> BlockingClient:
    # By itself it keeps ten connections and throws away what more are made for calls in flight.
    session = requests.Session()
    session.trust_env = False
    session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return WithEtcd3gw(Etcd3Client(host, port, timeout=TIMEOUT_S, session=session))


if __name__ == "__main__":
    answer_turns(connect)
