"""The guard as it is in a replica that works: small, although it hears of trust all the time."""

import time
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.execution.process_tree import parent_of
from leaderjob.model.run import Outcome
from tests.support.replicas import SHORT_TTL_S, Cluster, told, wait_for, witnessed

_LIMIT_BYTES = 15_000_000


def memory_bytes(pid: int) -> dict[str, int]:
    """By the names of proc(5), smaps_rollup: ``Pss``, ``Private_Dirty`` and so on."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def test_in_mid_run_a_guard_has_less_than_15_mb_of_its_own(
    etcd: EmbeddedEtcd, namespace: str, tmp_path: Path
) -> None:
    """Of its own: its unique set size (USS). Its proportional one (PSS) adds its share of what others map as well."""
    effects, gate = tmp_path / "effects", tmp_path / "gate"
    with (
        Cluster(
            etcd.endpoint,
            namespace,
            tmp_path / "r",
            jobs="tests.support.jobs.witnessed",
            names=("r1",),
            ttl_s=SHORT_TTL_S,
            config='[overrides.ticks]\nschedule = ""\n',
        ) as one,
        told(one),
    ):
        one["r1"].settings["LEADERJOB_LOG_LEVEL"] = "debug"
        one.start()
        run = one.trigger("gated", effects=str(effects), gate=str(gate))
        wait_for(effects)
        guard = parent_of(witnessed(effects)[0]["pid"])
        assert b"guard.py" in Path(f"/proc/{guard}/cmdline").read_bytes()
        assert parent_of(guard) == one["r1"].process.pid
        # Its deadline has been moved since.
        extended = one["r1"].log().count("trust_extended")
        give_up_at = time.monotonic() + 15.0
        while one["r1"].log().count("trust_extended") < extended + 3:
            assert time.monotonic() < give_up_at, one.logs()
            time.sleep(0.01)
        found = memory_bytes(guard)
        gate.touch()
        assert one.ended("gated", run).outcome is Outcome.SUCCEEDED
    assert found["Private_Clean"] + found["Private_Dirty"] < _LIMIT_BYTES, found
    assert found["Pss"] < _LIMIT_BYTES, found
