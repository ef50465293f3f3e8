"""The election recipe of ``kazoo``: python -m takeover.candidates.with_kazoo HOST:PORT TTL_S"""

import sys
import time

from kazoo.client import KazooClient  # type: ignore[import-not-found]


def lead() -> None:
    print("leads", flush=True)
    while True:
        time.sleep(60)


def main() -> None:
    address, ttl_s = sys.argv[1:]
    client = KazooClient(hosts=address, timeout=float(ttl_s))
    client.start()
    client.Election("/benchmark").run(lead)


if __name__ == "__main__":
    main()
