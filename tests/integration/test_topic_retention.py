"""How much of a topic is kept: what each one asked for, and what is found that nobody understands."""

import json
import math

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Topic
from leaderjob.recipes.retention import KEEP_COUNT
from tests.support.streams import run_with_streams


def test_who_asks_for_one_half_of_what_to_keep_leaves_the_other_half(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:

            async def asked(
                *, keep_count: int | None = None, keep_s: float | None = None
            ) -> tuple[int, float | None]:
                topic = Topic(client, "news", keep_count=keep_count, keep_s=keep_s, namespace=namespace)
                await topic.publish(b"1")
                told = await client.get(f"/leaderjob/{namespace}/topics/news/keep")
                assert told is not None
                record = json.loads(told.value)
                return record["messages"], record["seconds"]

            assert await asked(keep_s=60) == (KEEP_COUNT, 60)
            assert await asked(keep_count=5000) == (5000, 60)
            assert await asked(keep_s=3600) == (5000, 3600)
            assert await asked(keep_count=7) == (7, 3600)
            assert await asked(keep_s=math.inf) == (7, None)
            assert await asked(keep_count=8) == (8, None)

    run_with_streams(main())
