"""Keepalives, and the reads that confirm them, have a connection of their own."""

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from tests.support.cuttable import Cuttable


async def test_keepalives_and_confirmations_share_a_connection_that_other_calls_do_not_use(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with Cuttable(etcd.endpoint) as proxy, Etcd([proxy.endpoint]) as client:
        lease, _ = await client.grant(60)
        await client.put(namespace, b"held", lease=lease)
        await client.range(namespace)
        assert proxy.connections == 1
        for _ in range(2):
            await client.keep_alive(lease, timeout_s=5.0)
            found = await client.get(namespace, urgent=True)
            assert found is not None
            assert proxy.connections == 2
        await client.get(namespace)
        await client.revoke(lease)
        assert proxy.connections == 2
