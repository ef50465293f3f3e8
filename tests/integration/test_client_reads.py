"""A command is given and answered without reading the ledger, however large that is."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from leaderjob.client import Client
from leaderjob.clock import utcnow
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.errors import NotFound
from leaderjob.etcd import Etcd, follow
from leaderjob.model.command import Command
from leaderjob.model.job import JobSpec
from leaderjob.model.run import Cause, Outcome, Run, State
from leaderjob.records.keys import Keys


async def test_waiting_for_a_run_reads_no_other_job(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, read = Keys(namespace), list[str]()
    original = Etcd.range

    async def noted(which: Etcd, prefix: str, **options: Any) -> Any:
        read.append(prefix)
        return await original(which, prefix, **options)

    def run(name: str, state: State) -> bytes:
        outcome = Outcome.SUCCEEDED if state is State.DONE else None
        record = Run(
            id=name,
            job="j",
            cause=Cause.TRIGGER,
            state=state,
            created=utcnow(),
            outcome=outcome,
            ended=utcnow(),
        )
        return record.to_bytes()

    monkeypatch.setattr(Etcd, "range", noted)
    async with Etcd([etcd.endpoint]) as outside, Client([etcd.endpoint], namespace) as client:
        await outside.put(keys.run("j", "r"), run("r", State.ADMITTED))
        # An id may begin with another one.
        await outside.put(keys.run("j", "r-2"), run("r-2", State.DONE))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.wait_for_run("j", "r"))
            await outside.put(keys.run("j", "r"), run("r", State.DONE))
        assert (waiting.result().id, waiting.result().outcome) == ("r", Outcome.SUCCEEDED)
        with pytest.raises(NotFound):
            await client.wait_for_run("j", "unknown")
    assert read == [keys.run("j", "r"), keys.run("j", "unknown")]


async def test_trigger_reads_neither_runs_nor_results(
    etcd: EmbeddedEtcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, read = Keys(namespace), list[str]()
    original = Etcd.range

    async with Etcd([etcd.endpoint]) as outside, Client([etcd.endpoint], namespace) as client:

        async def noted(which: Etcd, prefix: str, **options: Any) -> Any:
            if which is not outside:
                read.append(prefix)
            return await original(which, prefix, **options)

        async def accept() -> None:
            async with aclosing(follow(outside, f"{keys.root}commands/")) as batches:
                async for batch in batches:
                    for event in batch.events:
                        assert event.now is not None
                        done = {"done": utcnow(), "accepted": True, "outcome": "admitted"}
                        command = Command.from_bytes(event.now.value).model_copy(update=done)
                        await outside.put(event.key, command.to_bytes())
                        return

        monkeypatch.setattr(Etcd, "range", noted)
        await outside.put(keys.spec("j"), JobSpec(name="j", reference="m:f").to_bytes())
        async with asyncio.TaskGroup() as group:
            group.create_task(accept())
            run = await client.trigger("j")
    assert read == [keys.jobs, keys.command(run)]
