"""The processes of the coordination benchmark: what becomes of a contestant that does not answer."""

import sys
from pathlib import Path

import pytest

from tests.support.loop import run_async

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _failure(program: Path, tmp_path: Path, *, timeout_s: float) -> str:
    """What is said of a contestant whose interpreter is ``program``."""
    from contest.contestants import Contestant
    from contest.player import Player, TurnFailed
    from contest.turns import Calls

    async def main() -> str:
        player = Player(Contestant("it", "with_it", "1.0"), program, NOBODY, tmp_path / "it.log")
        with pytest.raises(TurnFailed) as failed:
            await player.take(Calls("get", 1, 1, "fence", 1), timeout_s=timeout_s)
        await player.stop()
        return str(failed.value)

    return run_async(main())


def test_a_contestant_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    told = _failure(Path(sys.executable), tmp_path, timeout_s=30.0)
    assert told.startswith("it ended; its last words: ")
    assert "No module named contest.peers.with_it" in told


def test_a_contestant_that_hangs_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "hangs"
    program.write_text('#!/bin/sh\necho "about to hang" >&2\nexec sleep 600\n')
    program.chmod(0o755)
    told = _failure(program, tmp_path, timeout_s=0.5)
    assert told == "it said nothing for 0.5 s; its last words: about to hang"
