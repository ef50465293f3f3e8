"""An etcd that has used its quota up (the fixture ``small_etcd``), and has room again."""

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd, NoSpace
from tests.support.etcd import etcdctl


async def fill(client: Etcd) -> int:
    """Use up the quota; returns a revision below which nothing is needed."""
    revision = await client.put("/filler", b"")
    while True:
        try:
            revision = await client.put("/filler", bytes(1_000_000))
        except NoSpace:
            return revision


def make_room(etcd: EmbeddedEtcd, revision: int) -> None:
    etcdctl(etcd.endpoint, "compact", str(revision))
    etcdctl(etcd.endpoint, "defrag")
    etcdctl(etcd.endpoint, "alarm", "disarm")
