"""Random faults: whatever is struck, the invariants hold, and somebody leads again."""

from pathlib import Path

import pytest

from tests.faults.harness.members import best_network
from tests.faults.sequences import Fault, Struck, draw, play, possible, report
from tests.support.etcd import line_of, releases

_HERE = possible(best_network())
_QUICK = [fault for fault in _HERE if fault.lasts_s[1] <= 3.0]

slow = pytest.mark.slow


def told(struck: Struck) -> None:
    """Shown by pytest where the test fails."""
    print(report.line(struck))  # noqa: T201


@pytest.mark.parametrize(
    ("seed", "faults", "among", "binary"),
    [
        pytest.param(30, 3, _QUICK, releases()[0], id="quick"),
        *(
            pytest.param(11 + number, 20, _HERE, binary, id=f"all, etcd {line_of(binary)}", marks=slow)
            for number, binary in enumerate(releases())
        ),
    ],
)
@pytest.mark.long
def test_a_sequence_of_random_faults_violates_nothing(
    tmp_path: Path, seed: int, faults: int, among: list[Fault], binary: Path
) -> None:
    played = play(draw(seed, faults, among), tmp_path, tell=told, binary=binary)
    assert played.violations == (), "\n".join(map(str, played.violations))


@slow
def test_a_sequence_on_loopback_violates_nothing(tmp_path: Path) -> None:
    played = play(draw(13, 10, possible("proxies")), tmp_path, tell=told, network="proxies")
    assert played.violations == (), "\n".join(map(str, played.violations))
