"""Transactions as values: compares, operations, results; and how they become messages."""

from dataclasses import dataclass
from typing import Any, Literal

from leaderjob.etcd.errors import ValueTooLarge
from leaderjob.etcd.rpc import rpc
from leaderjob.etcd.values import KeyValue, RangeResult, encode_key, key_range

MAX_OPS = 128
MAX_REQUEST_BYTES = 1_500_000
"""etcd's defaults: ``--max-txn-ops`` and ``--max-request-bytes`` (1.5 MiB, less some room for the envelope)."""

Target = Literal["create_revision", "mod_revision", "version", "lease", "value"]


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition; with ``prefix`` it must hold for every key that begins with ``key``."""

    key: str
    target: Target
    operator: Literal["=", "!=", "<", ">"]
    operand: int | bytes
    prefix: bool = False

    def message(self) -> Any:
        result = {"=": 0, ">": 1, "<": 2, "!=": 3}[self.operator]
        target = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}[self.target]
        start, end = key_range(self.key, prefix=self.prefix)
        message = rpc.Compare(result=result, target=target, key=start, range_end=end)
        setattr(message, self.target, self.operand)
        return message


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, "create_revision", "=", 0)


def created_at(key: str, revision: int) -> Compare:
    """The key exists, and it is the one that was created at ``revision``."""
    return Compare(key, "create_revision", "=", revision)


def modified_at(key: str, revision: int) -> Compare:
    """The key was last written at ``revision`` (0: it does not exist)."""
    return Compare(key, "mod_revision", "=", revision)


def none_created_before(prefix: str, revision: int) -> Compare:
    """No key that begins with ``prefix`` has a create revision below ``revision``."""
    return Compare(prefix, "create_revision", ">", revision - 1, prefix=True)


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0

    def message(self) -> Any:
        return rpc.RequestOp(
            request_put=rpc.PutRequest(key=encode_key(self.key), value=self.value, lease=self.lease)
        )


@dataclass(frozen=True, slots=True)
class Delete:
    key: str
    prefix: bool = False

    def message(self) -> Any:
        start, end = key_range(self.key, prefix=self.prefix)
        return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=start, range_end=end))


@dataclass(frozen=True, slots=True)
class Get:
    key: str
    prefix: bool = False

    def message(self) -> Any:
        start, end = key_range(self.key, prefix=self.prefix)
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=start, range_end=end))


@dataclass(frozen=True, slots=True)
class Txn:
    """If every compare holds ``success`` is done, else ``failure``: at one revision, or not at all."""

    compares: tuple[Compare, ...] = ()
    success: tuple["Op", ...] = ()
    failure: tuple["Op", ...] = ()

    def message(self, max_ops: int = MAX_OPS) -> Any:
        return rpc.RequestOp(request_txn=self.request(max_ops))

    def request(self, max_ops: int = MAX_OPS) -> Any:
        """:param max_ops: a nested transaction has what the longest list of the outer one leaves of it.
        :raises ValueTooLarge: more than etcd takes, in operations.
        """
        operations = max(len(self.success), len(self.failure))
        for what, count in (
            ("the compares of a transaction", len(self.compares)),
            ("the operations of a transaction", operations),
        ):
            if count > max_ops:
                raise ValueTooLarge(what, count, max_ops, "entries")
        left = max_ops - max(len(self.compares), operations)
        return rpc.TxnRequest(
            compare=[compare.message() for compare in self.compares],
            success=[op.message(left) if isinstance(op, Txn) else op.message() for op in self.success],
            failure=[op.message(left) if isinstance(op, Txn) else op.message() for op in self.failure],
        )


Op = Put | Delete | Get | Txn


@dataclass(frozen=True, slots=True)
class TxnResult:
    """``results`` has, per operation, a :class:`RangeResult`, the number of deleted keys, a nested
    :class:`TxnResult`, or None for a put."""

    succeeded: bool
    revision: int
    results: tuple["RangeResult | TxnResult | int | None", ...]

    def range(self, index: int) -> RangeResult:
        """The result of a :class:`Get`. :raises TypeError: that operation was another."""
        result = self.results[index]
        if not isinstance(result, RangeResult):
            raise TypeError(f"operation {index} of this transaction is not a get")
        return result


def txn_result(response: Any) -> TxnResult:
    return TxnResult(
        response.succeeded,
        response.header.revision,
        tuple(_op_result(entry, response.header.revision) for entry in response.responses),
    )


def range_result(response: Any, revision: int) -> RangeResult:
    return RangeResult(tuple(KeyValue.of(kv) for kv in response.kvs), response.count, revision)


def _op_result(entry: Any, revision: int) -> "RangeResult | TxnResult | int | None":
    kind = entry.WhichOneof("response")
    if kind == "response_range":
        return range_result(entry.response_range, revision)
    if kind == "response_delete_range":
        return int(entry.response_delete_range.deleted)
    if kind == "response_txn":
        nested = entry.response_txn
        return TxnResult(
            nested.succeeded, revision, tuple(_op_result(inner, revision) for inner in nested.responses)
        )
    return None
