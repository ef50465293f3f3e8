"""However a job is defined, it works, or it is refused alone and with a sentence."""

from pathlib import Path
from typing import Any

import pytest

from leaderjob.catalog.catalog import Catalog, describe
from leaderjob.execution.ahead import WorkerAhead
from leaderjob.execution.attempt import run_attempt
from leaderjob.execution.protocol import WorkerRequest
from leaderjob.model.params import check_params
from leaderjob.model.run import Outcome
from tests.support import marked
from tests.support.loop import run_async

SUPPORT = Path(marked.__file__).parent
USABLE: dict[str, tuple[dict[str, Any], Any]] = {
    "ordinary": ({}, "ordinary"),
    "add-one": ({"left": 4}, 5),
    "add": ({}, 2),
    "counts": ({"by": 2}, 7),
    "counts-by-method": ({"by": 2}, 8),
    "counts-in-a-coroutine": ({}, 7),
    "counts-in-a-lambda": ({}, 8),
    "has_odd_defaults": ({}, "odd"),
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return run_async(describe(["jobs.definitions"], cwd=SUPPORT))


def test_every_usable_job_is_found(catalog: Catalog) -> None:
    assert {found.spec.name for found in catalog.jobs} == set(USABLE)
    assert catalog.find("add-one").spec.description == "Adds two numbers."  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("<lambda>", "is not a valid name"),
        ("a-class", "AClass is a class: decorate a function"),
        ("generates", "its function is a generator"),
        ("generates_asynchronously", "its function is a generator"),
        ("generates-in-a-partial", "its function is a generator"),
        ("built-in", "the first parameter has to be the context"),
        (
            "schedule_by_position",
            "@job was given a str: its options have names, as in @job(schedule='@daily')",
        ),
        ("has_an_odd_option", "timeout"),
    ],
)
def test_unusable_job_is_refused_alone_with_a_sentence(catalog: Catalog, job: str, reason: str) -> None:
    (failure,) = [failure for failure in catalog.failures if f"job {job!r}" in failure.reason]
    assert reason in failure.reason


@pytest.mark.parametrize("job", USABLE)
async def test_usable_job_runs(tmp_path: Path, catalog: Catalog, job: str) -> None:
    params, result = USABLE[job]
    description = catalog.find(job)
    assert description is not None
    check_params(description.spec, params)
    request = WorkerRequest(
        reference=description.spec.reference,
        job=job,
        run_id="a",
        attempt=1,
        fencing_token=1,
        fire_time=None,
        params=params,
        artifact_dir=tmp_path / "artifacts",
        previous=None,
        cwd=SUPPORT,
    )
    async with WorkerAhead(log_path=tmp_path / "log", cwd=SUPPORT, grace_s=0.5) as worker:
        end = await run_attempt(
            request,
            worker,
            timeout_s=50.0,
            trusted_until=lambda: float("inf"),
            on_progress=lambda progress: None,
        )
    assert (end.outcome, end.result) == (Outcome.SUCCEEDED, result)
