"""What an idle replica costs: resident memory and processor time, beside a bare grpc.aio process.

One replica leads and one follows, both with the bundled search job and nothing to do. The floor is a
process that has imported ``grpc.aio`` and holds one open channel to the same etcd, with a unary call
every two seconds: what any asyncio client of etcd pays. Limits: 80 MB and 1 % of a core.

    python benchmarks/footprint.py [--seconds 60] [--json]
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from leaderjob.client import Client
from leaderjob.embedded.cluster import ReplicaProcess, stop_all
from leaderjob.embedded.etcd import EmbeddedEtcd

LIMIT_MB = 80.0
LIMIT_CPU_PERCENT = 1.0
_SETTLE_S = 10.0

_FLOOR = """
import asyncio, sys
import grpc, grpc.aio
from etcd3.etcdrpc import KVStub, rpc_pb2

async def main():
    async with grpc.aio.insecure_channel(sys.argv[1], options=(("grpc.enable_http_proxy", 0),)) as channel:
        stub = KVStub(channel)
        while True:
            await stub.Range(rpc_pb2.RangeRequest(key=b"x"))
            await asyncio.sleep(2)

asyncio.run(main())
"""


def resident_mb(pid: int) -> float:
    """Resident memory of one process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """Processor time that one process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def measure(seconds: float) -> dict[str, dict[str, float]]:
    """Per process: resident MB and percent of a core, over ``seconds``, all in the same run."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        async with EmbeddedEtcd(directory / "etcd") as etcd:
            arguments = ["--etcd", etcd.endpoint, "--namespace", "bench", "--jobs", "jobs.search_index"]
            replicas = [ReplicaProcess(name, directory, arguments) for name in ("one", "two")]
            floor = subprocess.Popen([sys.executable, "-c", _FLOOR, etcd.endpoint])  # noqa: ASYNC220 - returns at once
            try:
                for replica in replicas:
                    replica.start()
                roles = await _roles(etcd.endpoint, len(replicas))
                pids = {roles[replica.name]: replica.pid for replica in replicas if replica.pid}
                pids["floor (grpc.aio)"] = floor.pid
                await asyncio.sleep(_SETTLE_S)
                before = {name: cpu_s(pid) for name, pid in pids.items()}
                await asyncio.sleep(seconds)
                return {
                    name: {
                        "resident_mb": round(resident_mb(pid), 1),
                        "cpu_percent": round((cpu_s(pid) - before[name]) / seconds * 100, 2),
                        "children": len(children(pid)),
                    }
                    for name, pid in pids.items()
                }
            finally:
                floor.kill()
                floor.wait()
                await stop_all(replicas)


async def _roles(endpoint: str, count: int) -> dict[str, str]:
    async with Client([endpoint], "bench") as client:
        async for _, view in client.follow():
            roles = {name: str(stored.record.role) for name, stored in view.members.items()}
            if len(roles) == count and "leader" in roles.values():
                return roles
    raise AssertionError("a feed does not end")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = asyncio.run(measure(options.seconds))
    if options.json:
        print(json.dumps(found))
    else:
        floor = found["floor (grpc.aio)"]
        print(f"{'process':<18} {'resident':>10} {'of floor':>9} {'of a core':>10} {'children':>9}")
        for name, row in found.items():
            ratio = row["resident_mb"] / floor["resident_mb"]
            print(
                f"{name:<18} {row['resident_mb']:>7.1f} MB {ratio:>8.2f}x {row['cpu_percent']:>8.2f} % "
                f"{row['children']:>9.0f}"
            )
        print(f"{'limit':<18} {LIMIT_MB:>7.1f} MB {'':>9} {LIMIT_CPU_PERCENT:>8.2f} %")
    replicas = [row for name, row in found.items() if not name.startswith("floor")]
    fits = all(row["resident_mb"] < LIMIT_MB and row["cpu_percent"] < LIMIT_CPU_PERCENT for row in replicas)
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
