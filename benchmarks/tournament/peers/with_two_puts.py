"""What a lock is compared with: the key of a value put twice by leaderjob's client, and nothing else."""

import asyncio
import sys
import time

from contest.turns import TIMEOUT_S

from leaderjob.etcd import Etcd
from tournament.peers.serving import answer_turns_in_loop
from tournament.turns import Outcomes, Stopwatch, Turn


class WithTwoPuts:
    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd

    async def lock(self, turn: Turn) -> Outcomes:
        latencies_s = []
        stopwatch = Stopwatch()
        for _ in range(turn.count):
            began_s = time.monotonic()
            await self._etcd.put(turn.name, b"")
            await self._etcd.put(turn.name, b"")
            latencies_s.append(time.monotonic() - began_s)
        return {"each": stopwatch.outcome(latencies_s)}


async def main(host: str, port: str) -> None:
    async with Etcd([f"{host}:{port}"], call_timeout_s=TIMEOUT_S) as etcd:
        await answer_turns_in_loop({"lock": WithTwoPuts(etcd).lock})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
