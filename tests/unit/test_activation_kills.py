"""Activation under kills: the old version or the new one, whole, wherever the process dies."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leaderjob.atomic_files import TEMPORARY_PREFIX
from tests.support.activations import Place, said


def die_before_step(number: int) -> None:
    """From now on, this process kills itself before its ``number``-th change of the file system."""
    left = number

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return original(*arguments, **more)

        return call

    for name in ("rename", "replace", "link", "symlink", "mkdir", "unlink", "rmdir", "fsync"):
        setattr(os, name, counted(getattr(os, name)))


def killed_at_step(number: int, action: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        die_before_step(number)
        try:
            action()
        except BaseException:  # noqa: BLE001 -- reported by the exit code; pytest must not go on in the child
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "the action itself failed"
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("keep", [0, 1])
def test_a_kill_before_any_step_leaves_the_old_or_the_new_version_whole(tmp_path: Path, keep: int) -> None:
    seen: list[int] = []
    step = 0
    while True:
        place = Place(tmp_path / f"{step}" / "store")
        place.add(1, 2)
        place.activate(1)
        place.store.close()

        def swap(place: Place = place) -> None:
            place.restart()
            place.activate(2)
            place.activation.retain(keep=keep)

        killed = killed_at_step(step, swap)
        resolved = said(place.activation.current("job"))  # even before anything repairs
        place.restart()
        active = place.activation.active("job")
        assert active is not None, step
        assert said(place.activation.current("job")) == {active.version}, step
        assert resolved <= {1, active.version}, step
        place.store.verify(active.digest)
        left = [path for path in place.root.rglob("*") if path.name.startswith(TEMPORARY_PREFIX)]
        assert left == [], step
        assert list((place.root / "staging").iterdir()) == []
        seen.append(active.version)
        place.store.close()
        if not killed:
            break
        step += 1
    assert step > 15
    assert seen == sorted(seen), "once the new version was accepted, no later kill loses it"
    assert set(seen) == {1, 2}


SWAP_FOR_EVER = """
import json
import sys
from pathlib import Path
from leaderjob.results.activation import Activation
from leaderjob.results.store import Store
store = Store(Path(sys.argv[1]))
activation = Activation(store)
digests = json.loads(sys.argv[2])
active = activation.active("job")
sequence = active.sequence if active else 0
while True:
    sequence += 1
    version = 1 + sequence % 3
    activation.activate("job", history="h", sequence=sequence, version=version, digest=digests[str(version)])
    activation.retain(keep=0, keep_manifests=digests.values())
    print(sequence, flush=True)
"""


def test_kills_at_random_moments_never_lose_what_was_confirmed(place: Place) -> None:
    chance = random.Random(7)
    digests = json.dumps(place.digests)
    place.activate(1)
    confirmed = 1
    for _ in range(4):
        place.store.close()
        child = subprocess.Popen(
            [sys.executable, "-c", SWAP_FOR_EVER, str(place.root), digests], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(chance.randint(1, 12)):
            confirmed = int(child.stdout.readline())
        threading.Event().wait(chance.random() * 0.01)  # so that the kill falls anywhere in a swap
        child.kill()
        confirmed = max([confirmed, *(int(line) for line in child.stdout.read().split())])
        child.stdout.close()
        child.wait()
        place.restart()
        active = place.activation.active("job")
        assert active is not None
        assert active.sequence in (confirmed, confirmed + 1)
        assert said(place.activation.current("job")) == {active.version}
        for digest in place.digests.values():
            place.store.verify(digest)
