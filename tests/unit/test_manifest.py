"""The digests and the manifest: deterministic out, distrustful in."""

import hashlib
import io
import json
from typing import Any

import pytest
from blake3 import blake3

from leaderjob.model.artifact import PIECE_BYTES, FileEntry, Manifest
from leaderjob.results.digests import digest_bytes, digest_file, file_matches, matches, new_hasher
from leaderjob.results.errors import ManifestRefused
from leaderjob.results.manifest import MAX_MANIFEST_BYTES, decode_manifest, encode_manifest

EMPTY = digest_bytes(b"")


def entry(path: str, **changed: Any) -> dict[str, Any]:
    return {"path": path, "size_bytes": 0, "digest": EMPTY, "piece_digests": [], **changed}


def encoded(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"v": 1, "job": "j", "run": "r", "files": entries}).encode()


def test_one_pass_gives_the_digest_of_the_file_and_of_each_piece() -> None:
    content = b"a" * PIECE_BYTES + b"b" * PIECE_BYTES + b"tail"
    found = digest_file(io.BytesIO(content))
    assert found.size_bytes == len(content)
    assert found.digest == f"blake3:{blake3(content).hexdigest()}"
    assert found.piece_digests == (
        f"blake3:{blake3(b'a' * PIECE_BYTES).hexdigest()}",
        f"blake3:{blake3(b'b' * PIECE_BYTES).hexdigest()}",
        f"blake3:{blake3(b'tail').hexdigest()}",
    )


@pytest.mark.parametrize(("size", "pieces"), [(0, 0), (1, 1), (PIECE_BYTES, 1), (PIECE_BYTES + 1, 2)])
def test_a_file_has_as_many_piece_digests_as_the_model_demands(size: int, pieces: int) -> None:
    found = digest_file(io.BytesIO(bytes(size)))
    assert len(found.piece_digests) == pieces
    FileEntry(path="f", size_bytes=found.size_bytes, digest=found.digest, piece_digests=found.piece_digests)


def test_sha256_is_accepted_on_verification_and_unknown_algorithms_are_not() -> None:
    digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    assert matches(b"x", digest)
    assert not matches(b"y", digest)
    assert file_matches(io.BytesIO(b"x"), digest)
    assert not matches(b"x", f"md5:{hashlib.md5(b'x').hexdigest()}")
    with pytest.raises(ValueError, match="unknown digest algorithm"):
        new_hasher("md5")


def test_the_encoding_is_canonical_and_round_trips() -> None:
    manifest = Manifest(job="j", run="r", files=(FileEntry.model_validate(entry("ü/x")),))
    content = encode_manifest(manifest)
    files = f'[{{"digest":"{EMPTY}","path":"ü/x","piece_digests":[],"size_bytes":0,"v":1}}]'
    assert content == f'{{"files":{files},"job":"j","run":"r","v":1}}'.encode()
    assert decode_manifest(content) == manifest


@pytest.mark.parametrize(
    ("why", "entries"),
    [
        ("climbs out", [entry("../x")]),
        ("climbs out in the middle", [entry("a/../../x")]),
        ("absolute", [entry("/etc/passwd")]),
        ("the directory itself", [entry(".")]),
        ("empty", [entry("")]),
        ("a NUL", [entry("a\0b")]),
        ("a backslash", [entry("a\\b")]),
        ("half a surrogate pair", [entry("\ud800")]),
        ("a part too long", [entry("x" * 256)]),
        ("too long", [entry("/".join(["x" * 200] * 6))]),
        ("twice", [entry("a"), entry("a")]),
        ("differ in case only", [entry("a"), entry("A")]),
        ("a file as a directory", [entry("a"), entry("a/b")]),
        ("too many pieces", [entry("a", piece_digests=[EMPTY])]),
        ("too few pieces", [entry("a", size_bytes=1)]),
        ("negative", [entry("a", size_bytes=-1)]),
        ("no digest", [entry("a", digest="../../etc/passwd")]),
        (
            "one digest, two contents",
            [entry("a"), entry("b", size_bytes=1, piece_digests=[digest_bytes(b"x")])],
        ),
    ],
)
def test_a_hostile_manifest_is_refused(why: str, entries: list[dict[str, Any]]) -> None:
    with pytest.raises(ManifestRefused):
        decode_manifest(encoded(*entries))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"files": 1}'])
def test_what_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestRefused):
        decode_manifest(content)


def test_a_manifest_beyond_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(ManifestRefused, match="at most"):
        decode_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


def test_a_manifest_of_no_files_is_fine() -> None:
    assert decode_manifest(encoded()).files == ()
