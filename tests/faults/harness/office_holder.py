"""A process that leads: ``python -m tests.faults.harness.office_holder ENDPOINT...``

Prints a line of JSON whenever its trust was extended; fails when its term is over.
"""

import asyncio
import json
import sys
import time

from leaderjob.clock import boottime
from tests.faults.harness.candidates import standing, trusted_after
from tests.support.candidates import SHORT


async def main(endpoints: list[str]) -> None:
    async with standing(endpoints, timing=SHORT) as candidate:
        leadership = await candidate.lead()
        while True:
            said = {
                "wall": time.time(),
                "boottime": boottime(),
                "trusted_until": leadership.trusted_until,
            }
            sys.stdout.write(f"{json.dumps(said)}\n")
            sys.stdout.flush()
            await trusted_after(leadership, boottime())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
