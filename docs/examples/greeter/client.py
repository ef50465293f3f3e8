"""Asks the greeters in turn, for as long as there are any: ``python client.py ETCD [NAME…]``."""

import asyncio
import sys

from leaderjob.etcd import Etcd
from leaderjob.recipes import balanced_channel


async def main(etcd: str, names: list[str]) -> None:
    async with (
        Etcd([etcd]) as client,
        balanced_channel(client, "greeter", repeatable=["/Greeter/SayHello"]) as channel,
    ):
        say_hello = channel.unary_unary("/Greeter/SayHello")
        for name in names:
            print((await say_hello(name.encode(), timeout=10)).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:] or ["world"] * 3))
