"""Text of others (an exception, a path, a message of a job) as a record may carry it."""

import re

LIMIT_CHARS = 4096
BRIEF_CHARS = 256

# Controls (but newline and tab), what turns the direction of writing, and lone surrogates, which no UTF-8 can carry.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, limit_chars: int = LIMIT_CHARS) -> str:
    """``text`` with escapes for what cannot be printed or stored, and cut to ``limit_chars``."""
    shown = _UNPRINTABLE.sub(_escape, text[: limit_chars + 1])
    return shown if len(shown) <= limit_chars else shown[: limit_chars - 1] + "…"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
