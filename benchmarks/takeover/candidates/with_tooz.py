"""The election of ``tooz``, whatever stands behind it: python -m takeover.candidates.with_tooz URL

Its coordinator looks for an office to take whenever it is asked to: here ten times a second.
"""

import contextlib
import os
import sys
import time

from tooz import coordination  # type: ignore[import-not-found]

_GROUP = b"benchmark"
_POLL_S = 0.1


def lead(_: object) -> None:
    print("leads", flush=True)


def main() -> None:
    (url,) = sys.argv[1:]
    coordinator = coordination.get_coordinator(url, f"candidate-{os.getpid()}".encode())
    coordinator.start(start_heart=True)
    with contextlib.suppress(coordination.GroupAlreadyExist):
        coordinator.create_group(_GROUP).get()
    coordinator.join_group(_GROUP).get()
    coordinator.watch_elected_as_leader(_GROUP, lead)
    while True:
        coordinator.run_elect_coordinator()
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
