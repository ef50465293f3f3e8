"""What a source says of an artifact is held against what was published, before anything is written."""

import json
from typing import Any

import pytest

from leaderjob.model.artifact import Manifest
from leaderjob.results.digests import digest_bytes
from leaderjob.results.errors import (
    FetchFailed,
    ManifestRefused,
    TooLarge,
)
from leaderjob.results.store import Store
from leaderjob.results.transfer import fetch
from tests.support.transfers import BIG, FILES, LIMIT, Bench, answer_ok, bring, clean


@pytest.mark.parametrize(
    "files",
    [
        [("../x", b"1")],
        [("/etc/x", b"1")],
        [("a", b"1"), ("a", b"1")],
        [(".", b"1")],
        [("a", b"1", [digest_bytes(b"1")] * 2)],
    ],
)
def test_a_hostile_manifest_is_refused_before_anything_is_written(
    bench: Bench, follower: Store, files: list[Any]
) -> None:
    entries = [
        {
            "path": path,
            "size_bytes": len(content),
            "digest": digest_bytes(content),
            "piece_digests": pieces[0] if pieces else [digest_bytes(content)],
        }
        for path, content, *pieces in files
    ]
    content = json.dumps({"job": "j", "run": "r", "files": entries}).encode()
    asked: list[str] = []

    def answer(digest: str, first: int) -> bytes:
        asked.append(digest)
        return answer_ok(content, 0, len(content))

    before = sorted(follower.root.rglob("*"))
    with pytest.raises(ManifestRefused):
        fetch(follower, digest_bytes(content), len(content), [bench.raw(answer)], max_total_bytes=LIMIT)
    assert len(asked) == 1
    assert sorted(follower.root.rglob("*")) == before


def test_a_manifest_whose_pieces_do_not_make_up_its_file_is_refused(bench: Bench, follower: Store) -> None:
    entry = {
        "path": "a",
        "size_bytes": 1,
        "digest": digest_bytes(b"2"),
        "piece_digests": [digest_bytes(b"1")],
    }
    manifest = Manifest.model_validate({"job": "j", "run": "r", "files": [entry]}).to_bytes()
    blobs = {digest_bytes(manifest): manifest, digest_bytes(b"2"): b"1"}
    source = bench.raw(lambda digest, first: answer_ok(blobs[digest], 0, len(blobs[digest])))
    with pytest.raises(ManifestRefused, match="contradicts itself"):
        fetch(follower, digest_bytes(manifest), len(manifest), [source], max_total_bytes=LIMIT)
    assert not follower.has(digest_bytes(b"2"))
    assert clean(follower)


@pytest.mark.parametrize("size", [0, -1, 1 << 40])
def test_an_impossible_size_of_a_manifest_is_refused_unasked(follower: Store, size: int) -> None:
    with pytest.raises(ManifestRefused):
        fetch(follower, digest_bytes(b"m"), size, ["127.0.0.1:1"], max_total_bytes=LIMIT)


def test_a_manifest_is_never_read_beyond_its_published_size(bench: Bench, follower: Store) -> None:
    content = b"x" * 1_000_000
    source = bench.raw(lambda digest, first: answer_ok(content, 0, len(content)))
    with pytest.raises(FetchFailed, match="offered 1000000 bytes"):
        fetch(follower, digest_bytes(content), 100, [source], max_total_bytes=LIMIT)


def test_an_artifact_over_the_limit_is_refused(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, FILES)
    with pytest.raises(TooLarge):
        bring(follower, staged, bench.serve(leader), max_total_bytes=len(BIG))
    assert list(follower.root.glob("objects/*/*/*")) == []
