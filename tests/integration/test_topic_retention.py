"""How much of a topic is kept: what each one asked for, and what is found that nobody understands."""

import json
import math

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Topic
from leaderjob.recipes.retention import KEEP_COUNT
from leaderjob.telemetry.events import Events
from tests.support.hearing import hearing
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


def test_what_nobody_can_read_is_told_once_by_each_publisher_however_often_it_trims(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    async def main() -> None:
        async with Etcd([etcd.endpoint]) as client:
            root = f"/leaderjob/{namespace}/topics/news"
            topic = Topic(client, "news", namespace=namespace)

            async def told() -> list[str]:
                with hearing() as heard:
                    for _ in range(3):
                        await topic.trim()
                return [fields["key"] for fields in heard.all(Events.RECORD_QUARANTINED)]

            await topic.publish(b"1")
            await client.put(f"{root}/messages/stray", b"x")
            assert await told() == [f"{root}/messages/stray"]
            await client.put(f"{root}/messages/stray", b"y")
            assert await told() == [f"{root}/messages/stray"]
            for damaged in ("keep", "messages/trimmed"):
                await client.put(f"{root}/{damaged}", b"nonsense")
                assert await told() == [f"{root}/{damaged}"]
            topic = Topic(client, "news", namespace=namespace)
            assert sorted(await told()) == [f"{root}/keep", f"{root}/messages/trimmed"]

    run_with_streams(main())
