"""What a request needs to be allowed, in words: etcd says only that something was denied."""

from collections.abc import Iterator
from typing import Any

from leaderjob.etcd.rpc import rpc

_TOLD_KEYS = 4


def wanted(request: Any) -> str:
    """``write /a, read /b/ and what is below``."""
    found = list(dict.fromkeys(_needs(request)))
    if not found:
        return "do that"
    more = f" and {len(found) - _TOLD_KEYS} more" if len(found) > _TOLD_KEYS else ""
    return ", ".join(found[:_TOLD_KEYS]) + more


def _needs(request: Any) -> Iterator[str]:
    if isinstance(request, rpc.RangeRequest | rpc.WatchCreateRequest):
        yield f"read {_keys(request.key, request.range_end)}"
    elif isinstance(request, rpc.PutRequest):
        yield f"write {_keys(request.key, b'')}"
    elif isinstance(request, rpc.DeleteRangeRequest):
        yield f"write {_keys(request.key, request.range_end)}"
    elif isinstance(request, rpc.TxnRequest):
        for compare in request.compare:
            yield f"read {_keys(compare.key, compare.range_end)}"
        for op in (*request.success, *request.failure):
            yield from _needs(getattr(op, op.WhichOneof("request")))
    elif isinstance(request, rpc.AlarmRequest):
        yield "see etcd's alarms"
    elif isinstance(request, rpc.LeaseRevokeRequest):
        yield "write the keys on a lease"


def _keys(key: bytes, range_end: bytes) -> str:
    name = key.decode(errors="replace")
    return f"{name} and what is below" if range_end else name
