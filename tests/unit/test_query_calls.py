"""A query from a client to a replica and back, over gRPC."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leaderjob.api.server import ReplicaServer
from leaderjob.client import Client, NoAnswer, ask
from leaderjob.errors import NotFound, SettingsError
from leaderjob.execution.query import QueryPool
from leaderjob.model.query import Answer, Query
from leaderjob.telemetry.events import Events, listen
from tests.support import marked

SUPPORT = Path(marked.__file__).parent


@asynccontextmanager
async def replica(tmp_path: Path) -> AsyncIterator[str]:
    """A replica's address, which serves the first version of the job ``lookup``."""
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "text").write_text("the text")
    async with QueryPool(tmp_path / "logs", cwd=SUPPORT) as pool:
        await pool.activate("lookup", "jobs.queries:lookup", 1, tmp_path / "1")
        async with ReplicaServer("node-1", pool, "127.0.0.1:0") as server:
            yield f"127.0.0.1:{server.port}"


def query(what: str, **fields: Any) -> Query:
    return Query(job="lookup", fields={"what": what, **fields})


@pytest.mark.parametrize(
    ("what", "value"),
    [("null", None), ("limit", "é" * 2_097_151), ("small numbers", [1e-05] * 699_050)],
    ids=["null", "text at the limit", "numbers at the limit"],
)
async def test_any_answer_up_to_the_limit_arrives(tmp_path: Path, what: str, value: Any) -> None:
    async with replica(tmp_path) as address:
        answer = await ask(address, query(what), 30.0)
    assert (answer.replica, answer.version, answer.value) == ("node-1", 1, value)


@pytest.mark.parametrize("what", ["value error", "type error", "fail", "exit"])
async def test_error_of_the_jobs_own_code_is_no_wrong_query_and_is_logged_with_its_place(
    tmp_path: Path, what: str
) -> None:
    told: list[Mapping[str, Any]] = []
    end = listen(lambda event, fields: told.append(fields) if event is Events.QUERY_FAILED else None)
    try:
        async with replica(tmp_path) as address:
            with pytest.raises(NoAnswer, match="failed on the query") as failed:
                await ask(address, query(what), 30.0)
    finally:
        end()
    assert failed.value.exit_code == 1
    (fields,) = told
    assert fields["job"] == "lookup"
    assert "in answer" in fields["trace"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (query("wrong"), "there is no such field: 'colour'"),
        (query("text", colour="red"), "unexpected keyword argument 'colour'"),
        (query("x" * (2 << 20)), "more than 1048576"),
    ],
)
async def test_wrong_query_is_the_callers_fault(tmp_path: Path, sent: Query, reason: str) -> None:
    async with replica(tmp_path) as address:
        with pytest.raises(SettingsError, match=reason) as refused:
            await ask(address, sent, 30.0)
        assert refused.value.exit_code == 2
        with pytest.raises(NotFound):
            await ask(address, Query(job="other", fields={}), 30.0)


@pytest.mark.parametrize("fields", [{"q": {1, 2}}, {"q": float("nan")}, {"q": "\udc80"}, {"q": {1: 2}}])
async def test_client_sends_nothing_that_is_not_json(fields: dict[str, Any]) -> None:
    async with Client(["127.0.0.1:1"]) as client:
        with pytest.raises(SettingsError, match="the query to lookup cannot be sent"):
            await client.query("lookup", fields)
        with pytest.raises(SettingsError, match="the parameters of lookup cannot be sent"):
            await client.trigger("lookup", fields)


def test_answer_of_a_release_that_leaves_null_out_is_null() -> None:
    assert Answer.from_bytes(b'{"v":1,"replica":"a","job":"b","version":1}').value is None
