"""What a worker does with the standard streams, which the replica has opened as the job's log."""

import io
import logging
import sys


def set_up_log() -> None:
    """Send ``logging`` to standard error, and let each line reach the file at once: a worker that is
    killed writes no buffer out."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
