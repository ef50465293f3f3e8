"""``etcdctl lock NAME COMMAND``: a process, a connection and a lease for each time that the lock is held."""

import os
import signal
import subprocess
import sys
import time

from takeover.rivals import etcdctl

from tournament.peers.serving import answer_turns
from tournament.turns import SETTLE_S, TTL_S, Outcomes, Stopwatch, Turn

_POLL_S = 0.05


class WithEtcdctl:
    def __init__(self, endpoint: str) -> None:
        self._program = [str(etcdctl()), "--endpoints", endpoint]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
        self._environment = {**kept, "ETCDCTL_API": "3"}

    def lock(self, turn: Turn) -> Outcomes:
        latencies_s = []
        stopwatch = Stopwatch()
        for _ in range(turn.count):
            began_s = time.monotonic()
            self._ended(self._take(turn.name, "true"))
            latencies_s.append(time.monotonic() - began_s)
        return {"each": stopwatch.outcome(latencies_s)}

    def handover(self, turn: Turn) -> Outcomes:
        """The processes of those who wait have been started before."""
        first = self._take(turn.name)
        assert first.stdout is not None
        first.stdout.readline()  # it has it
        waiters = [self._take(turn.name, "true") for _ in range(turn.crowd)]
        while self._standing(turn.name) <= turn.crowd:
            time.sleep(_POLL_S)
        time.sleep(SETTLE_S)
        stopwatch = Stopwatch()
        first.send_signal(signal.SIGINT)
        for waiter in waiters:
            self._ended(waiter)
        outcome = stopwatch.outcome()
        first.communicate()
        return {"all": outcome}

    def _take(self, name: str, *command: str) -> "subprocess.Popen[bytes]":
        arguments = ["lock", f"--ttl={TTL_S}", name, *command]
        return subprocess.Popen([*self._program, *arguments], env=self._environment, stdout=subprocess.PIPE)

    def _ended(self, process: "subprocess.Popen[bytes]") -> None:
        process.communicate()
        if process.returncode:
            raise AssertionError(f"etcdctl ended with code {process.returncode}")

    def _standing(self, name: str) -> int:
        """How many stand in line."""
        arguments = ["get", f"{name}/", "--prefix", "--keys-only"]
        told = subprocess.run(
            [*self._program, *arguments], env=self._environment, capture_output=True, check=True
        )
        return len(told.stdout.split())


def main(host: str, port: str) -> None:
    theirs = WithEtcdctl(f"{host}:{port}")
    answer_turns({"lock": theirs.lock, "handover": theirs.handover})


if __name__ == "__main__":
    main(*sys.argv[1:])
