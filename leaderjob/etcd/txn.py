"""Transactions as values: compares, operations, results; and how they become messages."""

from dataclasses import dataclass
from typing import Any, Literal

from leaderjob.etcd.errors import ValueTooLarge
from leaderjob.etcd.rpc import rpc
from leaderjob.etcd.values import KeyValue, RangeResult, check_value, encode_key, key_range

MAX_OPS = 128
MAX_REQUEST_BYTES = 1_500_000
"""etcd's defaults: ``--max-txn-ops`` and ``--max-request-bytes`` (1.5 MiB, less some room for the envelope)."""

_RESULTS = {"=": 0, ">": 1, "<": 2, "!=": 3}
_TARGETS = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}

Target = Literal["create_revision", "mod_revision", "version", "lease", "value"]


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition; with ``prefix`` it must hold for every key that begins with ``key``."""

    key: str
    target: Target
    operator: Literal["=", "!=", "<", ">"]
    operand: int | bytes
    prefix: bool = False

    def write(self, message: Any) -> None:
        """Into an empty ``Compare``."""
        message.result = _RESULTS[self.operator]
        message.target = _TARGETS[self.target]
        message.key, message.range_end = key_range(self.key, prefix=self.prefix)
        setattr(message, self.target, self.operand)

    def equals(self, found: KeyValue | None) -> bool:
        """Whether the key, as it was found, has what this compares it with; for one key and the operator ``=``."""
        if self.prefix or self.operator != "=":
            raise TypeError(f"{self} asks for more than whether one key is as it was")
        if found is None:
            return self.target != "value" and self.operand == 0
        return bool(getattr(found, self.target) == self.operand)


def absent(key: str) -> Compare:
    """The key does not exist."""
    return Compare(key, "create_revision", "=", 0)


def none_below(prefix: str) -> Compare:
    """No key begins with ``prefix``."""
    return Compare(prefix, "create_revision", "=", 0, prefix=True)


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

    def write(self, message: Any) -> None:
        """Into an empty ``RequestOp``, as all operations do."""
        put = message.request_put
        put.key, put.value, put.lease = encode_key(self.key), check_value(self.key, self.value), self.lease


@dataclass(frozen=True, slots=True)
class Delete:
    key: str
    prefix: bool = False

    def write(self, message: Any) -> None:
        delete = message.request_delete_range
        delete.key, delete.range_end = key_range(self.key, prefix=self.prefix)


@dataclass(frozen=True, slots=True)
class Get:
    """One key, or with ``prefix`` all that begin with it.

    :param newest: only so many of them, those that were created last, the latest first; 0: all.
    :param oldest: only so many of them, those that were created first, the first first; 0: all.
    :param created_before: only those that were created before this revision; 0: all.
    :param created_after: only those that were created after this revision; 0: all.
    :param keys_only: without their values, and without their leases, which etcd 3.7 leaves out, too. :param count_only: no keys at all, only how many there are.
    """

    key: str
    prefix: bool = False
    newest: int = 0
    created_before: int = 0
    oldest: int = 0
    created_after: int = 0
    keys_only: bool = False
    count_only: bool = False

    def write(self, message: Any) -> None:
        self.write_range(message.request_range)

    def write_range(self, get: Any) -> None:
        """Into an empty ``RangeRequest``."""
        get.key, get.range_end = key_range(self.key, prefix=self.prefix)
        if self.newest:
            get.limit = self.newest
            get.sort_target, get.sort_order = rpc.RangeRequest.CREATE, rpc.RangeRequest.DESCEND
        elif self.oldest:
            get.limit = self.oldest
            get.sort_target, get.sort_order = rpc.RangeRequest.CREATE, rpc.RangeRequest.ASCEND
        if self.created_before:
            get.max_create_revision = self.created_before - 1
        if self.created_after:
            get.min_create_revision = self.created_after + 1
        get.keys_only, get.count_only = self.keys_only, self.count_only


@dataclass(frozen=True, slots=True)
class Txn:
    """If every compare holds ``success`` is done, else ``failure``: at one revision, or not at all."""

    compares: tuple[Compare, ...] = ()
    success: tuple["Op", ...] = ()
    failure: tuple["Op", ...] = ()

    def request(self) -> Any:
        """:raises ValueTooLarge: more than etcd takes, in operations."""
        request = rpc.TxnRequest()
        self._write(request, MAX_OPS)
        return request

    def _write(self, request: Any, max_ops: int) -> None:
        """:param max_ops: a nested transaction has what the longest list of the outer one leaves of it."""
        operations = max(len(self.success), len(self.failure))
        if len(self.compares) > max_ops:
            raise ValueTooLarge("the compares of a transaction", len(self.compares), max_ops, "entries")
        if operations > max_ops:
            raise ValueTooLarge("the operations of a transaction", operations, max_ops, "entries")
        for compare in self.compares:
            compare.write(request.compare.add())
        left = max_ops - max(len(self.compares), operations)
        for ops, messages in ((self.success, request.success), (self.failure, request.failure)):
            for op in ops:
                message = messages.add()
                if isinstance(op, Txn):
                    message.request_txn.SetInParent()
                    op._write(message.request_txn, left)
                else:
                    op.write(message)


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
