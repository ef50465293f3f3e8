"""Jobs whose results are published and queried."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderjob import BadQuery, JobContext, job


@job
def value(ctx: JobContext, value: Any) -> Any:
    """Its result is a JSON value, without any file."""
    return value


@job
def files(ctx: JobContext, text: str, count: int = 3) -> dict[str, Any]:
    """Its result is some files, all with the same text, and a JSON value."""
    for number in range(count):
        (ctx.artifact_dir() / f"{number}.txt").write_text(f"{number} {text}\n" * 1000)
    return {"text": text, "fencing_token": ctx.fencing_token}


@files.query
def open_files(directory: Path) -> Callable[..., Any]:
    lines = [path.read_text().splitlines()[0] for path in sorted(directory.glob("*.txt"))]

    def answer(number: int) -> dict[str, Any]:
        if not 0 <= number < len(lines):
            raise BadQuery(f"number is {number}, and there are {len(lines)} files")
        return {"line": lines[number], "pid": os.getpid(), "directory": str(directory)}

    return answer
