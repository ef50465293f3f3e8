"""What a worker does with the standard streams, which the replica has opened as the job's log."""

import io
import logging
import sys


def set_up_log() -> None:
    """Send what is logged to standard error, until the job's code configures ``logging`` itself; and let each line
    reach the file at once: a worker that is killed writes no buffer out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    # Not with basicConfig(): the root logger would have a handler, and basicConfig() in the job would do nothing.
    last = logging.StreamHandler()
    last.setLevel(logging.INFO)
    last.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.lastResort = last
    logging.root.setLevel(logging.INFO)


def job_logger(job: str) -> logging.Logger:
    """The logger that a job gets as ``ctx.log``.

    It is not registered by its name, so a configuration that disables existing loggers does not disable it.
    """
    logger = logging.Logger(f"job.{job}")
    logger.parent = logging.root
    return logger
