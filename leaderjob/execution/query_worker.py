"""Entry point of a query worker: ``python -m leaderjob.execution.query_worker MESSAGES_FD``.

Opens one published version of a job and answers queries on it, one after the other, until its input
ends. ``protocol.py`` describes the messages.
"""

import inspect
import os
import sys
from pathlib import Path
from typing import BinaryIO

from leaderjob.execution.channel import Channel
from leaderjob.execution.joblog import set_up_log
from leaderjob.execution.protocol import from_line, shorten
from leaderjob.json_text import ANSWER_LIMIT_BYTES, JsonTooLarge, encode
from leaderjob.modules import load_job, own_trace, program_arguments
from leaderjob.sdk import Answer, BadQuery, Json
from leaderjob.telemetry.raised import message_of, name_of


def main() -> None:
    own_pid = os.getpid()
    channel = Channel(int(sys.argv[1]))
    set_up_log()
    with _own_input() as requests:
        opening = from_line(requests.readline())
        try:
            sys.argv = program_arguments(opening["reference"])
            answer = _open(opening["reference"], Path(opening["directory"]))
        except BaseException as error:
            if os.getpid() != own_pid:
                raise
            channel.send({"type": "closed", **_problem(error)})
            return
        channel.send({"type": "ready"})
        for line in requests:
            request = from_line(line)
            said, value = _answered(answer, request["query"], own_pid)
            if os.getpid() != own_pid:
                return  # a process that the job has forked: the requests are not for it
            channel.send({"id": request["id"], **said}, value)


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


def _answered(answer: Answer, query: dict[str, Json], own_pid: int) -> tuple[dict[str, Json], bytes | None]:
    """What to say, and the JSON of the answer. What is wrong with the call is the caller's fault, and so is what the
    job's code says is; all else is the job's."""
    misfit = _misfit(answer, query)
    if misfit is not None:
        return {"type": "bad", "reason": shorten(misfit)}, None
    try:
        value = answer(**query)
    except BadQuery as error:
        return {"type": "bad", "reason": shorten(message_of(error) or "the job refuses the query")}, None
    except BaseException as error:
        if os.getpid() != own_pid:
            raise
        return {"type": "error", **_problem(error)}, None
    try:
        return {"type": "answer"}, encode(value, ANSWER_LIMIT_BYTES)
    except JsonTooLarge as error:
        reason = f"the answer is too large: {error}; ask for less of it"
    except Exception as error:  # noqa: BLE001 - subclasses of dict and list may raise anything
        reason = shorten(f"the answer is not JSON: {message_of(error)}")
    return {"type": "error", "reason": reason, "traceback": None}, None


def _misfit(answer: Answer, query: dict[str, Json]) -> str | None:
    """Why the query's fields are not arguments of ``answer``; None if they are, or if nobody can tell."""
    try:
        signature = inspect.signature(answer)
    except Exception:  # noqa: BLE001 - a callable object of the job's may raise anything
        return None
    try:
        signature.bind(**query)
    except TypeError as error:
        return str(error)
    return None


def _problem(error: BaseException) -> dict[str, Json]:
    reason = f"{name_of(error)}: {message_of(error)}".removesuffix(": ")
    return {"reason": shorten(reason), **own_trace(error)}


if __name__ == "__main__":
    main()
