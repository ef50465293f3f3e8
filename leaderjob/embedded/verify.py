"""Whether what a replica serves is what was published, told from the bytes on its disk."""

from pathlib import Path

from leaderjob.errors import LeaderjobError
from leaderjob.results.digests import file_matches
from leaderjob.results.manifest import decode_manifest
from leaderjob.results.objects import Objects


def serves(state_dir: Path, job: str, digest: str) -> bool:
    """Re-hash every file of the active version of ``job`` against the manifest with this digest."""
    store = state_dir / "store"
    try:
        with Objects(store).open(digest) as blob:
            if not file_matches(blob, digest):
                return False
            blob.seek(0)
            manifest = decode_manifest(blob.read())
        current = (store / "jobs" / job / "current").resolve(strict=True)
        for entry in manifest.files:
            with (current / entry.path).open("rb") as file:
                if not file_matches(file, entry.digest):
                    return False
    except (OSError, LeaderjobError):
        return False
    found = {str(path.relative_to(current)) for path in current.rglob("*") if path.is_file()}
    return found == {entry.path for entry in manifest.files}
