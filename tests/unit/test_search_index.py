"""The search job: what it publishes, and how queries on it are answered."""

import ast
import json
import logging
import shutil
import stat
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs
from jobs._search import corpus as corpus_module
from jobs._search.document import Document
from jobs._search.index import IndexWriter
from jobs.search_index import open_index, search_index
from leaderjob import JobContext, Permanent, RetryLater

pytest.importorskip("tantivy", reason="the extra leaderjob[search] is not installed")

Search = Callable[..., dict[str, Any]]


def build(out: Path, corpus: Path | str, **parameters: Any) -> dict[str, Any]:
    result: dict[str, Any] = search_index(JobContext.local(out), str(corpus), **parameters)
    return result


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def titles(answer: dict[str, Any]) -> list[str]:
    return [result["title"] for result in answer["results"]]


@pytest.fixture(scope="module")
def real_slice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published index of some of the running Python's standard library."""
    root, out = tmp_path_factory.mktemp("python") / "lib", tmp_path_factory.mktemp("out")
    standard_library = Path(sysconfig.get_path("stdlib"))
    root.mkdir()
    for package in ("json", "asyncio"):
        shutil.copytree(standard_library / package, root / package)
    for module in ("subprocess.py", "tokenize.py", "shutil.py"):
        shutil.copy(standard_library / module, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "import_roots", lambda: [root])
        build(out, "python")
    return out


@pytest.fixture(scope="module")
def search(real_slice: Path) -> Search:
    return open_index(real_slice)  # type: ignore[no-any-return]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "soup.md").write_text(
        "# Onion soup\n\nSlice the onions très finement — naïve cooks burn onions.\n"
    )
    (folder / "bread.txt").write_text("Flour, water, salt.\n")
    (folder / "salt.txt").write_text("Where the salt of the soup comes from.\n")
    return folder


# What is found


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("subprocess.Popen", "subprocess.Popen"),
        ("subprocess popen", "subprocess.Popen"),
        ("Popen", "subprocess.Popen"),
        ("popen", "subprocess.Popen"),
        ("open", "builtins.open"),
        ("open file", "builtins.open"),
        ("json dumps", "json.dumps"),
        ("json.dumps()", "json.dumps"),
        ("asyncio gather", "asyncio.tasks.gather"),
        ("asyncio.gather", "asyncio.tasks.gather"),
        ("JSONDecoder", "json.decoder.JSONDecoder"),
        ("decode error json", "json.decoder.JSONDecodeError"),
        ("py_scanstring", "json.decoder.py_scanstring"),
        ("kind:module json", "json"),
        ("path:tokenize detect encoding", "tokenize.detect_encoding"),
    ],
)
def test_the_symbol_that_was_meant_comes_first(search: Search, query: str, first: str) -> None:
    assert titles(search(query, limit=3))[0] == first


def test_the_whole_title_beats_any_number_of_mentions(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"title": "soup stock soup stock", "body": "soup stock soup stock"}\n{"title": "Soup stock"}\n'
    )
    build(tmp_path / "out", path)
    assert titles(open_index(tmp_path / "out")("soup stock"))[0] == "Soup stock"


def test_a_name_that_a_parent_package_exports_beats_mentions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "site-packages"
    (root / "pack").mkdir(parents=True)
    (root / "pack" / "__init__.py").write_text("from ._impl import gather")
    (root / "pack" / "_impl.py").write_text("def gather(): ...")
    (root / "other.py").write_text('"""pack.gather pack.gather pack.gather"""')
    monkeypatch.setattr(corpus_module, "import_roots", lambda: [root])
    build(tmp_path / "out", "python")
    assert titles(open_index(tmp_path / "out")("pack.gather")) == ["pack._impl.gather", "other"]


@pytest.mark.parametrize("query", ["dumps -json", "dumps NOT json"])
def test_a_word_can_be_excluded(search: Search, query: str) -> None:
    answer = search(query, limit=100)
    assert answer["total"] == answer["hits"]
    assert "json.dumps" not in titles(answer)


def test_an_answer_says_what_it_is_about(search: Search, real_slice: Path) -> None:
    answer = search("subprocess.Popen", limit=2)
    assert answer["query"] == "subprocess.Popen"
    assert answer["hits"] == len(answer["results"]) == 2 < answer["total"]
    assert answer["documents"] == json.loads((real_slice / "index.json").read_text())["documents"] > 1000
    best = answer["results"][0]
    source = (Path(sysconfig.get_path("stdlib")) / "subprocess.py").read_text().splitlines()
    assert source[best["line"] - 1] == "class Popen:"
    assert (best["kind"], best["path"], best["signature"]) == ("class", "subprocess.py", "class Popen")
    assert best["score"] > answer["results"][1]["score"]
    json.dumps(answer)


def test_all_words_must_match_unless_nothing_has_them_all(tmp_path: Path, notes: Path) -> None:
    build(tmp_path / "out", notes)
    search = open_index(tmp_path / "out")
    assert (titles(search("salt soup")), search("salt soup")["relaxed"]) == (["salt.txt"], False)
    answer = search("salt onion")
    assert (set(titles(answer)), answer["relaxed"]) == ({"Onion soup", "bread.txt", "salt.txt"}, True)
    nothing = search("zeppelin")
    assert (nothing["hits"], nothing["total"], nothing["relaxed"], nothing["results"]) == (0, 0, False, [])


def test_a_title_weighs_more_than_the_text(tmp_path: Path, notes: Path) -> None:
    build(tmp_path / "out", notes)
    assert titles(open_index(tmp_path / "out")("soup")) == ["Onion soup", "salt.txt"]


def test_a_snippet_marks_the_words_that_matched(tmp_path: Path, notes: Path) -> None:
    build(tmp_path / "out", notes)
    search = open_index(tmp_path / "out")
    (result,) = search("onion burn")["results"]
    assert result["snippet"].endswith("Slice the «onions» très finement — naïve cooks «burn» «onions»")
    assert search("onion", snippet=False)["results"][0]["snippet"] == ""


def test_where_only_the_title_matched_the_snippet_is_the_beginning(search: Search) -> None:
    results = {result["title"]: result["snippet"] for result in search("subprocess.Popen")["results"]}
    assert results["subprocess.Popen"].startswith("Execute a child program in a new process.")
    assert "«" not in results["subprocess.Popen"]


def test_json_lines_are_found_by_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "books.jsonl"
    lines: list[dict[str, Any]] = [
        {"name": "Emma", "text": "A novel \ud800", "year": 1815, "author": "Jane Austen"},
        {"name": "Ulysses", "text": "A novel", "year": 1922, "big": 10**30, "huge": 1e308 * 10},
    ]
    path.write_text("".join(json.dumps(line).replace("Infinity", "1e999") + "\n" for line in lines))
    build(tmp_path / "out", path, title_field="name", body_field="text")
    search = open_index(tmp_path / "out")
    assert titles(search("novel")) == ["Emma", "Ulysses"]
    assert titles(search("metadata.author:austen")) == ["Emma"]
    assert titles(search("metadata.year:1922")) == ["Ulysses"]
    assert search("ulysses")["results"][0]["metadata"] == {"year": 1922, "big": str(10**30), "huge": "inf"}


@pytest.mark.parametrize(
    ("query", "limit", "sentence"),
    [
        ("", 10, "the query is empty"),
        (" \n", 10, "the query is empty"),
        (None, 10, "the query is empty"),
        ("!!", 10, "no word to look for"),
        ("x" * 1001, 10, "1001 characters"),
        ('"json dumps', 10, "close what is open"),
        ("(json", 10, "close what is open"),
        ("author:smith", 10, "names a field that cannot be searched"),
        ("line:3", 10, "use title, body"),
        ("-json", 10, "only says what to leave out"),
        ("title:*", 10, "cannot be answered"),
        ("json", 0, "whole number from 1 to 100"),
        ("json", 101, "whole number from 1 to 100"),
        ("json", True, "whole number from 1 to 100"),
        ("json", "5", "whole number from 1 to 100"),
    ],
)
def test_a_bad_query_is_a_value_error_that_says_why(
    search: Search, query: Any, limit: Any, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        search(query, limit=limit)


# What is published


def test_the_job_publishes_the_index_and_says_how_much_is_in_it(tmp_path: Path, notes: Path) -> None:
    (notes / "photo.png").write_bytes(b"x")
    result = build(tmp_path / "out", notes)
    assert result == {"corpus": str(notes), "kind": "folder", "documents": 3, "skipped": {"other ending": 1}}
    assert json.loads((tmp_path / "out" / "index.json").read_text()) == {"v": 1, **result}
    assert open_index(tmp_path / "out")("soup")["documents"] == 3


@pytest.mark.parametrize("writer_threads", [1, 3])
def test_only_the_files_of_the_index_are_left(tmp_path: Path, writer_threads: int) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"title": "number {n}", "body": "text"}}\n' for n in range(5000)))
    build(tmp_path / "out", path, writer_threads=writer_threads)
    published = {p.name for p in (tmp_path / "out" / "index").iterdir()}
    meta = json.loads((tmp_path / "out" / "index" / "meta.json").read_text())
    segments = {segment["segment_id"].replace("-", "") for segment in meta["segments"]}
    assert {name.partition(".")[0] for name in published} == {"meta", *segments}
    assert sum(segment["max_doc"] for segment in meta["segments"]) == 5000
    assert titles(open_index(tmp_path / "out")("4321")) == ["number 4321"]


def test_nothing_is_added_to_the_index_after_it_is_finished(tmp_path: Path) -> None:
    writer = IndexWriter(tmp_path / "index", threads=1)
    writer.add(Document(title="a", kind="text", path="a.txt", line=1, body="b"))
    writer.finish()
    finished = contents(tmp_path)
    # Tantivy looks at the index twice a second; that it adds nothing has no event to wait for.
    time.sleep(1.2)
    assert contents(tmp_path) == finished
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_rebuilding_an_unchanged_corpus_changes_no_file(tmp_path: Path, notes: Path) -> None:
    build(tmp_path / "first", notes)
    build(tmp_path / "second", notes)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    (notes / "salt.txt").write_text("From the sea.")
    build(tmp_path / "third", notes)
    assert contents(tmp_path / "third") != contents(tmp_path / "first")


def test_a_read_only_version_is_opened_without_a_write(tmp_path: Path, notes: Path) -> None:
    # To root no folder is read-only, so what counts is that nothing was created either.
    build(tmp_path / "out", notes)
    index = tmp_path / "out" / "index"
    for file in index.iterdir():
        file.chmod(0o444)
    index.chmod(0o555)
    before = contents(tmp_path / "out"), index.stat().st_mtime_ns
    search = open_index(tmp_path / "out")
    assert titles(search("onion")) == ["Onion soup"]
    assert (contents(tmp_path / "out"), index.stat().st_mtime_ns) == before
    index.chmod(0o755)


def test_opening_leaves_nothing_in_the_temporary_folder(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "out", notes)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    search = open_index(tmp_path / "out")
    assert list((tmp_path / "scratch").iterdir()) == []
    assert titles(search("onion")) == ["Onion soup"]


def test_a_version_stays_answerable_after_its_files_are_unlinked(tmp_path: Path, notes: Path) -> None:
    build(tmp_path / "out", notes)
    search = open_index(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert titles(search("onion")) == ["Onion soup"]


def test_every_published_file_is_regular(real_slice: Path) -> None:
    modes = [path.lstat().st_mode for path in real_slice.rglob("*") if path.name != "index"]
    assert modes
    assert all(map(stat.S_ISREG, modes))


# How the job fails


def test_a_folder_with_nothing_to_index_publishes_nothing_and_says_what_is_taken(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"x")
    with pytest.raises(Permanent, match=r"nothing to index.*\.md.*'other ending': 1"):
        build(tmp_path / "out", tmp_path / "photos")
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_json_lines_file_without_a_usable_line_is_a_permanent_failure(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"headline": "x"}\n')
    with pytest.raises(Permanent, match=r"text in 'title' or 'body'.*'malformed': 1"):
        build(tmp_path / "out", tmp_path / "a.jsonl")


def test_a_job_that_is_asked_to_stop_publishes_nothing(tmp_path: Path, notes: Path) -> None:
    ctx = JobContext(
        "search_index", "r", 1, 0, None, logging.getLogger(), tmp_path / "out", _stopping=lambda: True
    )
    with pytest.raises(RetryLater):
        search_index(ctx, str(notes))
    assert not (tmp_path / "out" / "index.json").exists()


def test_no_writer_thread_is_refused(tmp_path: Path, notes: Path) -> None:
    with pytest.raises(Permanent, match="writer_threads is 0"):
        build(tmp_path / "out", notes, writer_threads=0)


def test_without_tantivy_the_message_says_what_to_install(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(Permanent, match=r"leaderjob\[search\]"):
        build(tmp_path / "out", notes)


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no search index"):
        open_index(tmp_path)


# How the job behaves


def test_progress_goes_forward_to_the_total(tmp_path: Path, notes: Path) -> None:
    told: list[Any] = []
    ctx = JobContext(
        "search_index", "r", 1, 0, None, logging.getLogger(), tmp_path / "out", _send=told.append
    )
    search_index(ctx, str(notes))
    assert [(message["done"], message["total"]) for message in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_importing_the_job_does_not_import_tantivy() -> None:
    code = "import sys, jobs.search_index; sys.exit('tantivy' in sys.modules)"
    root = str(Path(jobs.__file__).parents[1])
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0


def test_bundled_jobs_import_only_the_public_names_of_leaderjob() -> None:
    """The wheel carries them under another name, so an absolute import of ``jobs`` would break there."""
    allowed = {"leaderjob", "tantivy", *sys.stdlib_module_names}
    for path in Path(jobs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (
                    node.module == "leaderjob"
                    or str(node.module).partition(".")[0] in sys.stdlib_module_names
                ), path
            elif isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, path
