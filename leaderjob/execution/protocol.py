"""What replica, guard and worker say to each other. Every message is one line of JSON.

**The guard's arguments** (``guard.py`` cannot import this module):
``DEADLINE|none GRACE_S LISTENER_FD,NONCE,STAY_S|none CGROUP STDIN_FD,STDOUT_FD,STDERR_FD[,FD…] COMMAND…``. The
deadline is in seconds of ``CLOCK_BOOTTIME``, the grace is the time from TERM to KILL before it; the cgroup is the
directory of one for the worker, or empty. The command starts with the first three descriptors as its standard
input, output and error, all of them above 2, and has the others open under the same numbers: a worker has one, for
its messages; a plain command has none.

**Replica → guard**, on the guard's standard input; its end means that the replica is dead: kill at once.

- ``{"deadline": SECONDS | null}``: TERM to the worker at ``deadline − grace``, KILL to all at the deadline.
- ``{"stop": GRACE_S}``: TERM now, KILL after the grace. Stopping, once begun, is not undone.

**Guard → replica**, on the guard's standard output:

- ``{"type": "refused" | "failed", "reason"}``: nothing was started, or the command does not exist.
- ``{"type": "started", "pid"}``
- ``{"type": "beat"}``, every 0.25 s.
- ``{"type": "exited", "cause", "status", "max_rss_bytes", "reaped"}``, then it exits. ``cause`` says who
  began it: ``exit`` (the worker itself), ``stop``, ``deadline``, ``replica``. ``status`` is that of
  wait(2); ``reaped`` says that no descendant is left; it is false if some did not die within 10 s.

**Guard → the next leader**, on a connection to its listener, after the replica's death, once no descendant is left:
``{"reaped": NONCE}``; see ``attestation.py``.

**Replica → worker**, on its standard input: one :class:`WorkerRequest`, then the end.

**Worker → replica**, on its message descriptor:

- ``{"type": "progress", "done", "total", "message"}``, at most 10/s.
- ``{"type": "end", "kind", "stopping", …}``, once. ``stopping`` says that SIGTERM had arrived before.
  ``kind`` is ``returned`` (``value``), ``raised`` and ``permanent`` (``reason``, ``traceback`` and, as
  ``telemetry/raised.py`` describes them, ``exceptions``), ``retry_later`` (the same and ``delay_s``), or ``late``
  (the request came after its ``start_before``; nothing was started).

**Replica → query worker**: a line ``{"reference", "directory"}``, then ``{"id", "query"}``; the end of
the stream means: answer what was asked, then exit.

**Query worker → replica**: ``{"type": "ready"}`` or ``{"type": "closed", "reason", "traceback", "exceptions"}``, then for
each query, in their order, ``{"type": "answer", "id", "value"}``, ``{"type": "bad", "id", "reason"}`` (the
query is wrong) or ``{"type": "error", "id", "reason", "traceback", "exceptions"}``.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from leaderjob.errors import printable
from leaderjob.json_text import ANSWER_LIMIT_BYTES, DEPTH_LIMIT, decode, encode
from leaderjob.sdk import Json

LINE_LIMIT_BYTES = ANSWER_LIMIT_BYTES + 256 * 1024
"""Of a message: the largest value in it, or a traceback and its frames, and what is around them."""
PROGRESS_INTERVAL_S = 0.1
TEXT_LIMIT_CHARS = 4096
LONGEST_DELAY_S = 366 * 86400.0

_MESSAGE_LEVELS = DEPTH_LIMIT + 4


@dataclass(frozen=True, slots=True)
class WorkerRequest:
    """What a worker is to do.

    :param reference: where the job is: ``MODULE:JOB``.
    :param artifact_dir: where the run's files go; empty, or not there yet.
    :param previous: the directory of the version that was published last.
    :param cwd: the worker's current directory, where job modules are looked for first.
    :param start_before: instant of ``CLOCK_BOOTTIME`` from which on the job must not be started any more: what
        was stopped may hand its request over late, to a worker that is up already.
    """

    reference: str
    job: str
    run_id: str
    attempt: int
    fencing_token: int
    fire_time: datetime | None
    params: dict[str, Json]
    artifact_dir: Path
    previous: Path | None
    cwd: Path
    start_before: float | None = None

    def to_line(self) -> bytes:
        return to_line(
            {
                "reference": self.reference,
                "job": self.job,
                "run_id": self.run_id,
                "attempt": self.attempt,
                "fencing_token": self.fencing_token,
                "fire_time": None if self.fire_time is None else self.fire_time.isoformat(),
                "params": self.params,
                "artifact_dir": str(self.artifact_dir),
                "previous": None if self.previous is None else str(self.previous),
                "cwd": str(self.cwd),
                "start_before": self.start_before,
            }
        )

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        fields = from_line(line)
        fire_time, previous = fields["fire_time"], fields["previous"]
        return cls(
            reference=fields["reference"],
            job=fields["job"],
            run_id=fields["run_id"],
            attempt=fields["attempt"],
            fencing_token=fields["fencing_token"],
            fire_time=None if fire_time is None else datetime.fromisoformat(fire_time),
            params=fields["params"],
            artifact_dir=Path(fields["artifact_dir"]),
            previous=None if previous is None else Path(previous),
            cwd=Path(fields["cwd"]),
            start_before=fields["start_before"],
        )


def to_line(message: Json) -> bytes:
    """``message`` as one line. :raises InvalidJson: it is not JSON within the bounds."""
    return encode(message, LINE_LIMIT_BYTES, levels=_MESSAGE_LEVELS) + b"\n"


def from_line(line: bytes) -> Json:
    """:raises InvalidJson: the line is not JSON within the bounds."""
    return decode(line, LINE_LIMIT_BYTES, levels=_MESSAGE_LEVELS)


def shorten(text: str) -> str:
    """``text`` for people, at most 4,096 characters of it: a reason is a sentence, not a dump."""
    text = printable(text)
    return text if len(text) <= TEXT_LIMIT_CHARS else text[: TEXT_LIMIT_CHARS - 1] + "…"
