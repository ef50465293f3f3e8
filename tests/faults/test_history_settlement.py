"""A write that was not answered: to settle it by reading is a defect, and the checker sees what comes of it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from leaderjob.clock import boottime
from leaderjob.etcd import AmbiguousWrite, Compare, Etcd, Op, Put, absent, modified_at
from leaderjob.records.fenced import Conflict, FencedWriter
from leaderjob.records.keys import Keys
from tests.faults.harness import members, standing
from tests.faults.history import Recorder, Watched, check
from tests.faults.history.scene import BOUNDS

ELECTION_MS = 3000
"""The member that keeps a write must not have forgotten who leads etcd before it is back."""


class SettlesByReading(FencedWriter):
    """Takes a read, which shows the record as it was, for the end of a write that was not answered."""

    async def commit(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int:
        etcd = self.leadership.etcd
        try:
            return (await etcd.txn([*self._fence, *compares], ops)).revision
        except AmbiguousWrite:
            put = ops[0]
            assert isinstance(put, Put)
            found = await etcd.get(put.key)
            if found is None or found.value != put.value:
                raise Conflict("it is not there, so it was not done") from None
            return found.mod_revision


def tell(log: Path, key: str, value: str, *, done: bool) -> None:
    told = {"event": "write_settled", "boottime_s": boottime(), "key": key, "value": value, "done": done}
    with log.open("a") as file:
        file.write(json.dumps(told) + "\n")


async def write(writer: FencedWriter, log: Path, key: str, value: str, *compares: Compare) -> int:
    """The revision, or 0 if it is known not to have been done."""
    try:
        revision = await writer.commit(compares, [Put(key, value.encode())])
    except Conflict:
        revision = 0
    tell(log, key, value, done=revision > 0)
    return revision


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        pytest.param(SettlesByReading, ["I7"], id="settled-by-reading"),
        pytest.param(FencedWriter, [], id="sound", marks=pytest.mark.slow),
    ],
)
async def test_an_ambiguous_write_that_is_settled_by_reading_comes_back(
    tmp_path: Path, namespace: str, writes: type[FencedWriter], expected: list[str]
) -> None:
    key, witness = f"{Keys(namespace).root}record", f"{Keys(namespace).root}witness"
    watched = Watched(tmp_path)
    watched.follow("writer", log=tmp_path / "writer.log", state_dir=tmp_path / "none")
    log = tmp_path / "writer.log"

    async with members(tmp_path / "etcd", network="proxies", election_ms=ELECTION_MS) as etcd:
        keeper = (await etcd.followers())[0]
        others = [member.endpoint for member in etcd.besides(keeper)]
        with Recorder(others, namespace) as recorder:
            async with (
                standing(etcd.endpoints_from(keeper), call_timeout_s=0.3) as candidate,
                Etcd([keeper.endpoint], call_timeout_s=0.3) as through_it,
            ):
                writer = writes(await candidate.lead())
                first = await write(writer, log, key, "one", absent(key))
                await through_it.get(key)
                await keeper.link.cut(clients=False)
                await write(writer, log, key, "two", modified_at(key, first))
                with pytest.raises(AmbiguousWrite):
                    await through_it.put(witness, b"")
                await keeper.link.heal()
                while await through_it.get(witness) is None:
                    await asyncio.sleep(0.02)
                history = await asyncio.to_thread(recorder.history, watched)
    assert [violation.invariant for violation in check(history, BOUNDS)] == expected
