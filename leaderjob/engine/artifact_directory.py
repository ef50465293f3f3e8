"""Where an attempt leaves its files: made empty before it, and removed after it."""

import asyncio
import shutil
from pathlib import Path

_TIDY_WITHIN_S = 5.0


def make_empty(directory: Path) -> str | None:
    """Make the directory, empty; why that is impossible, or None."""
    try:
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
    except OSError as error:
        return (
            f"the attempt's directory {directory} cannot be made: {error.strerror or error}. Free space on the leader's "
            "disk, or mend what is in its state directory"
        )
    return None


async def tidy(directory: Path) -> None:
    """Remove it, and wait for that; but not on a disk that hangs, for it must not keep a term from ending."""
    removing = asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True))
    await asyncio.wait([removing], timeout=_TIDY_WITHIN_S)


def has_entries(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())
