"""The single seam to the messages and stubs of ``etcd3`` (distribution ``python3-etcd3``).

Whoever wants to take the stubs from somewhere else changes this file only. Nothing but the generated
messages and stubs is used: not the package's client, which neither resumes watches nor fails over.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from leaderjob.errors import SettingsError


class IncompatibleEtcd3(SettingsError):
    """The package that carries etcd's messages cannot be used."""


def _explain(failure: Exception) -> IncompatibleEtcd3:
    try:
        old = version("etcd3")
    except PackageNotFoundError:
        return IncompatibleEtcd3(
            f"the etcd messages of 'python3-etcd3' cannot be loaded ({failure}): "
            "install it again with pip install --force-reinstall python3-etcd3 'protobuf>=5.29'"
        )
    return IncompatibleEtcd3(
        f"the abandoned distribution 'etcd3' {old} is installed beside 'python3-etcd3' and overwrites its files: "
        "run pip uninstall -y etcd3 python3-etcd3 && pip install python3-etcd3"
    )


try:
    from etcd3.etcdrpc import AuthStub, ClusterStub, KVStub, LeaseStub, MaintenanceStub, WatchStub
    from etcd3.etcdrpc import kv_pb2 as _kv_pb2
    from etcd3.etcdrpc import rpc_pb2 as _rpc_pb2
except (ImportError, TypeError, AttributeError) as failure:
    raise _explain(failure) from failure

# The generated modules carry no types; here, once, they are declared to be untyped.
rpc: Any = _rpc_pb2
mvcc: Any = _kv_pb2


class Stubs:
    """The generated stubs on one channel."""

    def __init__(self, channel: Any) -> None:
        self.auth: Any = AuthStub(channel)
        self.cluster: Any = ClusterStub(channel)
        self.kv: Any = KVStub(channel)
        self.lease: Any = LeaseStub(channel)
        self.watch: Any = WatchStub(channel)
        self.maintenance: Any = MaintenanceStub(channel)
