"""Fetching: a source may lie, stall or die; what arrives is what was published, or nothing."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from leaderjob.atomic_files import free_bytes
from leaderjob.model.artifact import PIECE_BYTES, Manifest
from leaderjob.results.digests import digest_bytes
from leaderjob.results.errors import (
    FetchCancelled,
    FetchFailed,
    NotEnoughSpace,
)
from leaderjob.results.server import BlobServer
from leaderjob.results.store import Store
from leaderjob.results.transfer import fetch
from tests.support.transfers import BIG, FILES, LIMIT, Bench, answer_ok, bring, clean, honest


def test_a_fetched_artifact_is_the_published_one_and_is_fresh(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    told: list[tuple[int, int]] = []
    manifest = bring(
        follower, staged, bench.serve(leader), on_bytes=lambda done, total: told.append((done, total))
    )
    assert manifest == staged.manifest
    follower.verify(staged.digest)
    assert told[-1] == (len(BIG) + 5, len(BIG) + 5)
    assert told == sorted(told)
    assert clean(follower)
    follower.sweep([])
    follower.verify(staged.digest)


def test_only_missing_objects_travel(bench: Bench, leader: Store, follower: Store) -> None:
    first = bench.add(leader, {"big": BIG, "a": b"1"})
    asked: list[str] = []
    spying = honest(leader)

    def spy(digest: str, offset: int) -> bytes:
        asked.append(digest)
        return spying(digest, offset)

    source = bench.raw(spy)
    bring(follower, first, source)
    second = bench.add(leader, {"big": BIG, "a": b"2"}, run="r2")
    asked.clear()
    bring(follower, second, source)
    assert sorted(asked) == sorted([second.digest, digest_bytes(b"2")])
    bring(follower, second)  # everything is here: no source is needed
    assert len(asked) == 2


def test_an_artifact_of_no_files_and_one_of_empty_files_can_be_fetched(
    bench: Bench, leader: Store, follower: Store
) -> None:
    source = bench.serve(leader)
    for run, files in (("none", {}), ("empty", {"e": b""})):
        staged = bench.add(leader, files, run=run)
        bring(follower, staged, source)
        follower.verify(staged.digest)


def test_sha256_artifacts_can_be_fetched(bench: Bench, leader: Store, follower: Store) -> None:
    content = BIG
    pieces = [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]
    entry = {
        "path": "f",
        "size_bytes": len(content),
        "digest": digest_bytes(content, "sha256"),
        "piece_digests": [digest_bytes(piece, "sha256") for piece in pieces],
    }
    manifest = Manifest.model_validate({"job": "j", "run": "r", "files": [entry]}).to_bytes()
    digest = digest_bytes(manifest, "sha256")
    blobs = {digest: manifest, entry["digest"]: content}
    source = bench.raw(lambda wanted, first: answer_ok(blobs[wanted][first:], first, len(blobs[wanted])))
    fetch(follower, digest, len(manifest), [source], max_total_bytes=LIMIT)
    follower.verify(digest)


def test_a_source_that_sends_wrong_bytes_is_not_asked_again_and_its_bytes_do_not_stay(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, {**FILES, "z": b"last"})
    asked: list[str] = []

    def flip_the_second_piece(digest: str, content: bytes) -> bytes:
        asked.append(digest)
        if len(content) > PIECE_BYTES:
            return content[:PIECE_BYTES] + b"\0" + content[PIECE_BYTES + 1 :]
        return content

    liar = bench.raw(honest(leader, flip_the_second_piece))
    bring(follower, staged, liar, bench.serve(leader))
    follower.verify(staged.digest)
    assert asked[-1] == digest_bytes(BIG)
    assert len(asked) == 3  # manifest, "hello", and the lie; then never again


def test_lies_alone_end_in_an_error_that_quotes_them(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, FILES)
    liars = [
        bench.raw(honest(leader, lambda digest, content: bytes(len(content)))),
        bench.raw(lambda digest, first: answer_ok(b"short", first, 5)),
        bench.raw(lambda digest, first: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        bench.raw(lambda digest, first: b"SSH-2.0-OpenSSH\r\n"),
        "127.0.0.1:1",
        "nonsense",
    ]
    with pytest.raises(FetchFailed) as caught:
        bring(follower, staged, *liars)
    answers = dict(caught.value.answers)
    assert set(answers) == set(liars)
    assert "wrong bytes" in answers[liars[0]]
    assert "offered 5 bytes" in answers[liars[1]]
    assert "offered absent bytes" in answers[liars[2]]
    assert "refused" in answers["127.0.0.1:1"]
    assert "HOST:PORT" in answers["nonsense"]
    assert not follower.has(staged.digest)
    assert clean(follower)


def test_a_truncated_answer_is_taken_up_by_the_next_source_where_it_ended(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, {"big": BIG})
    asked: list[tuple[str, int]] = []
    whole = honest(leader)

    def note(digest: str, first: int) -> bytes:
        asked.append((digest, first))
        return whole(digest, first)

    cut = PIECE_BYTES + 1000
    dying = bench.raw(honest(leader, lambda digest, content: content[:cut]))
    bring(follower, staged, dying, bench.raw(note))
    follower.verify(staged.digest)
    assert (digest_bytes(BIG), PIECE_BYTES) in asked


def test_a_sole_source_that_breaks_off_again_and_again_is_enough_while_it_makes_progress(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, {"big": BIG})
    dying = bench.raw(honest(leader, lambda digest, content: content[: PIECE_BYTES + 1]))
    bring(follower, staged, dying)
    follower.verify(staged.digest)


def test_a_server_that_is_closed_in_mid_transfer_is_replaced_by_another(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, {"big": BIG, "big2": BIG[::-1]})
    dying = BlobServer(leader, "127.0.0.1", 0)
    first = "{}:{}".format(*dying.start())
    told: list[int] = []

    def close_at_once(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 1:
            dying.close()

    bring(follower, staged, first, bench.serve(leader), on_bytes=close_at_once)
    follower.verify(staged.digest)
    assert told == sorted(set(told))


def test_a_source_that_lacks_an_object_is_passed_over_for_it(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    partial = bench.store("partial")
    bring(partial, staged, bench.serve(leader))
    partial.objects.path(digest_bytes(BIG)).unlink()
    with pytest.raises(FetchFailed, match="answered 404"):
        bring(follower, staged, bench.serve(partial))
    assert follower.has(digest_bytes(b"hello"))  # verified, so it need not travel again
    bring(follower, staged, bench.serve(partial), bench.serve(leader))
    follower.verify(staged.digest)


def test_a_silent_source_is_given_up_after_the_timeout(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, FILES)
    silent = bench.raw(lambda digest, first: None)
    bring(follower, staged, silent, bench.serve(leader), timeout_s=0.2)
    follower.verify(staged.digest)


def test_a_source_that_trickles_is_given_up_after_the_time_for_a_piece(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    listener = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def trickle() -> None:
        accepted.append(listener.accept()[0])
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {staged.manifest_bytes}\r\n\r\n"
        try:
            accepted[0].sendall(head.encode())
            while True:
                accepted[0].sendall(b" ")
                time.sleep(0.02)
        except OSError:
            accepted[0].close()

    thread = threading.Thread(target=trickle)
    thread.start()
    started = time.monotonic()
    slow = "{}:{}".format(*listener.getsockname())
    bring(follower, staged, slow, bench.serve(leader), piece_timeout_s=0.3)
    thread.join(5)
    listener.close()
    assert not thread.is_alive()
    assert time.monotonic() - started < 5


def test_cancelling_ends_a_read_that_blocks(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, FILES)
    cancel = threading.Event()

    def fall_silent(digest: str, first: int) -> None:
        cancel.set()

    started = time.monotonic()
    with pytest.raises(FetchCancelled):
        bring(follower, staged, bench.raw(fall_silent), timeout_s=30.0, cancelled=cancel.is_set)
    assert time.monotonic() - started < 5
    assert clean(follower)


def test_cancelling_between_pieces_leaves_no_staging(bench: Bench, leader: Store, follower: Store) -> None:
    staged = bench.add(leader, {"big": BIG})
    told: list[int] = []
    with pytest.raises(FetchCancelled):
        bring(
            follower,
            staged,
            bench.serve(leader),
            on_bytes=lambda done, total: told.append(done),
            cancelled=lambda: bool(told),
        )
    assert told == [PIECE_BYTES]
    assert clean(follower)
    assert not follower.has(staged.digest)


def test_a_disk_with_too_little_room_is_seen_before_anything_is_written(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    with pytest.raises(NotEnoughSpace, match="must stay free"):
        bring(follower, staged, bench.serve(leader), reserve_bytes=free_bytes(follower.root) + (1 << 40))
    assert list(follower.root.glob("objects/*/*/*")) == []
    assert clean(follower)


def test_a_disk_that_becomes_full_is_reported_as_such_and_staging_is_removed(
    bench: Bench, leader: Store, follower: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = bench.add(leader, FILES)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughSpace):
        bring(follower, staged, bench.serve(leader))
    assert clean(follower)


def test_a_corrupt_object_of_the_follower_is_fetched_again(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    source = bench.serve(leader)
    bring(follower, staged, source)
    for digest in (staged.digest, digest_bytes(BIG)):
        follower.objects.path(digest).chmod(0o644)
        os.truncate(follower.objects.path(digest), 10)
    bring(follower, staged, source)
    follower.verify(staged.digest)


def test_sweeps_racing_fetches_never_remove_what_is_being_fetched(
    bench: Bench, leader: Store, follower: Store
) -> None:
    source = bench.serve(leader)
    shared = {f"s{index}": b"%d" % index for index in range(5)}
    artifacts = [
        bench.add(leader, {**shared, "own": b"own %d" % number}, run=f"r{number}") for number in range(4)
    ]
    stop = threading.Event()

    def sweep_on() -> int:
        removed = 0
        while not stop.is_set():
            removed += follower.sweep([]).objects
        return removed

    with ThreadPoolExecutor(1) as pool:
        sweeper = pool.submit(sweep_on)
        try:
            for number in range(12):
                staged = artifacts[number % len(artifacts)]
                bring(follower, staged, source)
                follower.verify(staged.digest)
                follower.settle(staged.digest)
        finally:
            stop.set()
        assert sweeper.result() > 0


def test_two_fetches_of_one_artifact_at_once_are_both_right(
    bench: Bench, leader: Store, follower: Store
) -> None:
    staged = bench.add(leader, FILES)
    source = bench.serve(leader)
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(bring, follower, staged, source) for _ in range(8)]:
            assert future.result() == staged.manifest
    follower.verify(staged.digest)
    assert clean(follower)
