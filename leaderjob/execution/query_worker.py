"""Entry point of a query worker: ``python -m leaderjob.execution.query_worker MESSAGES_FD``.

Opens one published version of a job and answers queries on it, one after the other, until its input
ends. ``protocol.py`` describes the messages.
"""

import json
import os
import sys
from pathlib import Path
from typing import BinaryIO

from leaderjob.execution.channel import Channel
from leaderjob.execution.joblog import set_up_log
from leaderjob.execution.protocol import ANSWER_LIMIT_BYTES, encode, shorten
from leaderjob.modules import load_job, own_trace
from leaderjob.sdk import Answer, Json


def main() -> None:
    channel = Channel(int(sys.argv[1]))
    set_up_log()
    with _own_input() as requests:
        opening = json.loads(requests.readline())
        try:
            answer = _open(opening["reference"], Path(opening["directory"]))
        except BaseException as error:  # noqa: BLE001 - the author's code may raise anything: it is reported
            channel.send({"type": "closed", **_problem(error)})
            return
        channel.send({"type": "ready"})
        for line in requests:
            request = json.loads(line)
            channel.send({"id": request["id"], **_answered(answer, request["query"])})


def _own_input() -> BinaryIO:
    """The requests, moved away from standard input: job code that reads there finds the end."""
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


def _open(reference: str, directory: Path) -> Answer:
    job = load_job(reference)
    if job.opener is None:
        raise LookupError(f"{reference} answers no queries: it has no function decorated with @JOB.query")
    return job.opener(directory)


def _answered(answer: Answer, query: dict[str, Json]) -> dict[str, Json]:
    try:
        value = answer(**query)
    except (TypeError, ValueError) as error:
        return {"type": "bad", "reason": shorten(str(error) or type(error).__name__)}
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything: it is the answer
        return {"type": "error", **_problem(error)}
    try:
        size_bytes = len(encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        return {"type": "error", "reason": f"the answer is not JSON: {error}", "traceback": None}
    if size_bytes > ANSWER_LIMIT_BYTES:
        reason = f"the answer has {size_bytes} bytes, more than {ANSWER_LIMIT_BYTES}: ask for less of it"
        return {"type": "error", "reason": reason, "traceback": None}
    return {"type": "answer", "value": value}


def _problem(error: BaseException) -> dict[str, Json]:
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    return {"reason": shorten(reason), **own_trace(error)}


if __name__ == "__main__":
    main()
