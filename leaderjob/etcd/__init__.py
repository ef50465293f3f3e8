"""A small asyncio client for etcd v3: key-value, transactions, leases, watches.

General purpose: nothing here knows what an election or a job is. ``rpc.py`` is the single seam to the
generated messages and stubs; no ``grpc`` type and no ``grpc`` error leaves this package.
"""

from leaderjob.etcd.auth import User
from leaderjob.etcd.client import Etcd
from leaderjob.etcd.errors import (
    AmbiguousWrite,
    AuthenticationFailed,
    ClientClosed,
    Compacted,
    EtcdError,
    EtcdUnavailable,
    HistoryWentBack,
    LeaseNotFound,
    NobodyKnown,
    NoSpace,
    OtherCluster,
    PermissionDenied,
    RequestRefused,
    ValueTooLarge,
)
from leaderjob.etcd.mirror import Batch, Event, EventKind, follow
from leaderjob.etcd.transaction import KeyExists, Transaction, TransactionConflict, transaction
from leaderjob.etcd.txn import (
    Compare,
    Delete,
    Get,
    Op,
    Put,
    Txn,
    TxnResult,
    absent,
    created_at,
    modified_at,
    none_below,
    none_created_before,
)
from leaderjob.etcd.values import KeyValue, RangeResult
from leaderjob.etcd.watch import watch

__all__ = [
    "AmbiguousWrite",
    "AuthenticationFailed",
    "Batch",
    "ClientClosed",
    "Compacted",
    "Compare",
    "Delete",
    "Etcd",
    "EtcdError",
    "EtcdUnavailable",
    "Event",
    "EventKind",
    "Get",
    "HistoryWentBack",
    "KeyExists",
    "KeyValue",
    "LeaseNotFound",
    "NoSpace",
    "NobodyKnown",
    "Op",
    "OtherCluster",
    "PermissionDenied",
    "Put",
    "RangeResult",
    "RequestRefused",
    "Transaction",
    "TransactionConflict",
    "Txn",
    "TxnResult",
    "User",
    "ValueTooLarge",
    "absent",
    "created_at",
    "follow",
    "modified_at",
    "none_below",
    "none_created_before",
    "transaction",
    "watch",
]
