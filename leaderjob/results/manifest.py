"""Manifests as bytes: canonical JSON out, and nothing in before it was checked.

Canonical means sorted keys, no whitespace, UTF-8, files ordered by path, so that the same files of the
same run always have the same digest.
"""

import json
from collections.abc import Iterable

from pydantic import ValidationError

from leaderjob.model.artifact import FileEntry, Manifest
from leaderjob.results.errors import ManifestRefused

MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    document = manifest.model_dump(mode="json", exclude_none=True)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def decode_manifest(content: bytes) -> Manifest:
    """The manifest in ``content``.

    :raises ManifestRefused: it is no manifest, or has paths or digests that must not be believed.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestRefused(
            f"the manifest has {len(content)} bytes: at most {MAX_MANIFEST_BYTES} are accepted; publish fewer files"
        )
    try:
        manifest = Manifest.from_bytes(content)
    except ValidationError as error:
        raise ManifestRefused(
            f"the manifest is refused, nothing of it was written: {explain(error)}"
        ) from error
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Refuse what the model accepts but a directory cannot hold, or what contradicts itself.

    :raises ManifestRefused: says which path and why.
    """
    for entry in manifest.files:
        problem = path_problem(entry.path)
        if problem:
            raise ManifestRefused(f"the manifest is refused, nothing of it was written: {problem}")
    distinct_objects(manifest.files)


def path_problem(path: str) -> str | None:
    """Why no directory of ours can hold ``path``, or None."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return f"{path!r} is not valid UTF-8"
    if path == ".":
        return f"{path!r} names the directory itself"
    if len(encoded) > MAX_PATH_BYTES or any(len(part) > MAX_PART_BYTES for part in encoded.split(b"/")):
        return f"{path[:80]!r}… is too long (at most {MAX_PATH_BYTES} bytes, {MAX_PART_BYTES} in each part)"
    return None


def distinct_objects(entries: Iterable[FileEntry]) -> dict[str, FileEntry]:
    """One entry for each digest: files with the same content travel and are kept once.

    :raises ManifestRefused: two entries claim one digest for contents that differ.
    """
    distinct: dict[str, FileEntry] = {}
    for entry in entries:
        known = distinct.setdefault(entry.digest, entry)
        if (known.size_bytes, known.piece_digests) != (entry.size_bytes, entry.piece_digests):
            raise ManifestRefused(
                f"the manifest is refused, nothing of it was written: {known.path!r} and {entry.path!r} "
                "have one digest, but differ in size or pieces"
            )
    return distinct


def explain(error: ValidationError) -> str:
    """The first complaint of a validation, without the value that it quotes at length."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
