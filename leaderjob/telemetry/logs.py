"""How events become log lines: for people on a terminal, as JSON for what collects logs."""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Any, Literal

from leaderjob.clock import boottime
from leaderjob.telemetry.events import Events
from leaderjob.telemetry.redaction import Mask, mask_strings

Format = Literal["auto", "text", "json"]

_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_EVENT_WIDTH = max(len(event.name) for event in Events)
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}


def configure_logs(
    replica: str,
    namespace: str,
    *,
    format: Format = "auto",  # noqa: A002 - as the setting is called
    level: str = "info",
    mask: Mask = str,
    stream: IO[str] | None = None,
) -> None:
    """Send our events, and the warnings of libraries, to ``stream``: standard error by default.

    :param format: ``auto`` is text on a terminal and JSON elsewhere.
    :param level: the least severe that is told of our events.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    sink = _Sink(stream)
    sink.setFormatter(
        LineFormatter(replica, colour=terminal, mask=mask)
        if is_text(format, stream)
        else JsonFormatter(replica, namespace, mask=mask)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[sink], force=True)
    logging.captureWarnings(True)
    logging.getLogger("leaderjob").setLevel(level.upper())


def is_text(format: Format, stream: IO[str]) -> bool:  # noqa: A002 - as the setting is called
    """Whether lines on ``stream`` are for people, not JSON."""
    return format == "text" or (format == "auto" and stream.isatty())


class _Sink(logging.StreamHandler[IO[str]]):
    def handleError(self, record: logging.LogRecord) -> None:
        """A record that cannot be formatted is told without what it says: by default its arguments would be
        printed as they are, secrets and all."""
        problem = f"a log line cannot be told: {type(sys.exc_info()[1]).__name__}"
        where = f"{record.pathname}:{record.lineno}"
        instead = logging.LogRecord(
            record.name, record.levelno, record.pathname, record.lineno, f"{problem}, at {where}", None, None
        )
        # It may be the stream that is broken, and then there is nobody to tell.
        with suppress(OSError, ValueError):
            self.stream.write(self.format(instead) + self.terminator)
            self.flush()


class LineFormatter(logging.Formatter):
    """``03:22:41.512 INFO    replica-1 term_won term=17``; what has several lines comes below.

    :param colour: for a terminal: in colours, and with the fields of events below each other.
    """

    def __init__(self, replica: str, *, colour: bool = False, mask: Mask = str) -> None:
        super().__init__()
        self._replica = replica
        self._colour = colour
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        told_as = {name: _shown(value) for name, value in fields.items()}
        short = {name: text for name, text in told_as.items() if "\n" not in text.strip()}
        told = " ".join(f"{self._paint(_DIM, name + '=')}{_quoted(value)}" for name, value in short.items())
        level = self._paint(_COLOURS.get(record.levelno, ""), f"{record.levelname:<7}")
        width = _EVENT_WIDTH if self._colour and fields else 0
        event = self._paint(_BOLD, f"{record.getMessage():<{width}}")
        lines = [f"{self._paint(_DIM, at)} {level} {self._replica} {event} {told}".rstrip()]
        lines += [text.strip() for name, text in told_as.items() if name not in short]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return self._mask("\n".join(lines))

    def _paint(self, style: str, text: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colour and style else text


class JsonFormatter(logging.Formatter):
    """One object a line: ``time``, ``boottime_s``, ``level``, ``replica``, ``namespace``, ``event`` and its fields.

    ``boottime_s`` is the clock of deadlines: it orders the lines of all processes of a machine, whatever becomes
    of the time of day.

    A line of a library has ``logger`` and ``message`` instead of an event.
    """

    def __init__(self, replica: str, namespace: str, *, mask: Mask = str) -> None:
        super().__init__()
        self._identity = {"replica": replica, "namespace": namespace}
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": at.replace("+00:00", "Z"), "level": record.levelname.lower()}
        line |= {"boottime_s": round(boottime(), 6), **self._identity}
        event = getattr(record, "event", None)
        if event is None:
            line |= {"logger": record.name, "message": record.getMessage()}
        else:
            # What a field is called must not hide what every line has.
            line |= {"event": event} | {
                name: value for name, value in getattr(record, "fields", {}).items() if name not in line
            }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(
            mask_strings(line, self._mask), ensure_ascii=False, default=lambda value: self._mask(str(value))
        )


def _shown(value: Any) -> str:
    """Milliseconds are short enough for people."""
    return str(round(value, 3)).removesuffix(".0") if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    return repr(text) if " " in text or "\n" in text or not text else text
