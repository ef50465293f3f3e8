"""A wall clock that can be set, for one process. Clocks that count seconds go on as they are."""

from pathlib import Path

from tests.support.needs import faketime_library, needs

needs_faketime = needs("faketime")


class WallClock:
    """:param file: says how wrong the clock is; processes look into it whenever they ask for the time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    @property
    def within(self) -> list[str]:
        """What a command begins with to have this clock. Not for Go, which does not ask the C library."""
        return [
            "env",
            f"LD_PRELOAD={faketime_library()}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]

    def set(self, ahead_s: int) -> None:
        """So far ahead of ours from now on; negative: behind."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+}\n")
        new.replace(self._file)
