"""The client of ``python3-etcd3`` (import name ``etcd3``): blocking gRPC, threads, the stubs that leaderjob uses."""

from typing import Any

import etcd3

from contest.peers.in_threads import BlockingClient, answer_turns
from contest.peers.tally import Told
from contest.turns import TIMEOUT_S


class WithPythonEtcd3:
    def __init__(self, client: Any) -> None:
        self._client = client

    def get(self, key: str) -> bytes:
        found, _ = self._client.get(key)
        if found is None:
            raise LookupError(key)
        value: bytes = found
        return value

    def put(self, key: str, value: bytes) -> None:
        self._client.put(key, value)

    def txn(self, fence: str, fence_revision: int, key: str, value: bytes) -> bool:
        ask = self._client.transactions
        succeeded, _ = self._client.transaction(
            compare=[ask.create(fence) == fence_revision],
            success=[ask.put(key, value)],
            failure=[ask.get(fence)],
        )
        return bool(succeeded)

    def watch(self, prefix: str, since: int, told: Told) -> None:
        events, cancel = self._client.watch_prefix(prefix, start_revision=since + 1, prev_kv=True)
        try:
            for event in events:
                if told(event.value, event.prev_value):
                    return
        finally:
            cancel()


def connect(host: str, port: int) -> BlockingClient:
    options = {"grpc.enable_http_proxy": 0, "grpc.max_receive_message_length": -1}
    return WithPythonEtcd3(etcd3.client(host, port, timeout=TIMEOUT_S, grpc_options=options.items()))


if __name__ == "__main__":
    answer_turns(connect)
