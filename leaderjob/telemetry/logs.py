"""Log lines for people: one event a line, its fields behind it, on stderr."""

import logging
from datetime import UTC, datetime
from typing import Any


class LineFormatter(logging.Formatter):
    """``03:22:41.512 INFO  replica-1 term_won token=17``."""

    def __init__(self, replica: str) -> None:
        super().__init__()
        self._replica = replica

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        fields: dict[str, Any] = getattr(record, "fields", {})
        text = " ".join([record.getMessage(), *(f"{name}={_shown(value)}" for name, value in fields.items())])
        line = f"{at} {record.levelname:<7} {self._replica} {text}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text) if " " in text or "\n" in text or not text else text


def log_to_stderr(replica: str, level: int = logging.INFO) -> None:
    """Send our events, and warnings of libraries, to stderr."""
    sink = logging.StreamHandler()
    sink.setFormatter(LineFormatter(replica))
    logging.basicConfig(level=logging.WARNING, handlers=[sink], force=True)
    logging.getLogger("leaderjob").setLevel(level)
