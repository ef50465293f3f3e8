"""What the search job reads: Python symbols, folders, JSON lines."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest

from jobs._search.corpus import open_corpus
from jobs._search.document import Document
from jobs._search.folder import MAX_FILE_BYTES, Folder
from jobs._search.json_lines import MAX_LINE_BYTES, JsonLines
from jobs._search.python_symbols import PythonSymbols, import_roots
from leaderjob import Permanent

LOG = logging.getLogger("test.search")


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def symbols(*roots: Path) -> PythonSymbols:
    return PythonSymbols(roots, LOG, compiled=False)


def by_title(corpus: PythonSymbols | Folder | JsonLines) -> dict[str, Document]:
    return {document.title: document for document in corpus.documents()}


# Python symbols


def test_modules_classes_functions_and_methods_are_found_by_qualified_name(tmp_path: Path) -> None:
    source = '''"""The package."""

class Box(dict):
    """Holds."""
    class Lid: ...
    async def open(self, *, wide: bool = True) -> None:
        """Opens
        it."""

def make(a, b=1):
    def inner(): ...
'''
    found = by_title(
        symbols(write(tmp_path / "lib", {"pack/__init__.py": '"""P."""', "pack/box.py": source}))
    )
    assert {title: (d.kind, d.line) for title, d in found.items()} == {
        "pack": ("module", 1),
        "pack.box": ("module", 1),
        "pack.box.Box": ("class", 3),
        "pack.box.Box.Lid": ("class", 5),
        "pack.box.Box.open": ("method", 6),
        "pack.box.make": ("function", 10),
    }
    assert found["pack.box.Box"].signature == "class Box(dict)"
    assert found["pack.box.Box.open"].signature == "async def open(self, *, wide: bool=True) -> None"
    assert found["pack.box.Box.open"].body == "Opens\nit."
    assert found["pack.box.Box.open"].path == "pack/box.py"
    assert "pack.Box.open" in found["pack.box.Box.open"].aliases


def test_source_is_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    source = f"open({str(trap)!r}, 'w').close()\ndef f(): ...\n"
    assert "m.f" in by_title(symbols(write(tmp_path / "lib", {"m.py": source})))
    assert not trap.exists()
    assert "m" not in sys.modules


def test_definitions_under_conditions_count_and_overloads_do_not(tmp_path: Path) -> None:
    source = """
if True:
    @typing.overload
    def f(a: int) -> int: ...
    def f(a): "The real one."
else:
    def f(a): "The other."
try:
    import x
except ImportError:
    class Fallback: ...
"""
    found = by_title(symbols(write(tmp_path / "lib", {"m.py": source})))
    assert set(found) == {"m", "m.f", "m.Fallback"}
    assert found["m.f"].body == "The real one."


def test_the_first_root_wins_as_it_does_for_import(tmp_path: Path) -> None:
    first = write(tmp_path / "lib", {"m.py": '"""First."""'})
    second = write(tmp_path / "site-packages", {"m.py": '"""Second."""\ndef only(): ...'})
    documents = list(symbols(first, second).documents())
    assert [(d.title, d.body) for d in documents] == [("m", "First."), ("m.only", "")]


def test_unparsable_files_are_counted_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, str | bytes] = {
        "a.py": "def broken(:", "b.py": b"\0", "c.py": "(" * 500, "d.py": "# coding: nope\n", "e.py": "",
    }  # fmt: skip
    corpus = symbols(write(tmp_path / "lib", files))
    with caplog.at_level(logging.INFO):
        assert list(by_title(corpus)) == ["e"]
    assert corpus.skipped == {"unparsable": 4}
    assert "a.py" in caplog.text
    assert corpus.done == corpus.total == 5


def test_the_warnings_of_other_peoples_source_are_not_shown(tmp_path: Path) -> None:
    corpus = symbols(write(tmp_path / "lib", {"m.py": 'x = "\\d"\nx is 1\n'}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(by_title(corpus)) == ["m"]


def test_tests_are_left_out_of_the_standard_library_only(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "test/a.py": "",
        "p/tests/b.py": "",
        "idlelib/idle_test/c.py": "",
        "p/d.py": "",
    }
    assert set(by_title(symbols(write(tmp_path / "lib", files)))) == {"p.d"}
    installed = by_title(symbols(write(tmp_path / "site-packages", files)))
    assert set(installed) == {"test.a", "p.tests.b", "idlelib.idle_test.c", "p.d"}
    assert "public" in installed["p.d"].tiers
    assert "public" not in installed["p.tests.b"].tiers


def test_what_cannot_be_imported_is_left_out(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a-b.py": "", "x-1.0.dist-info/c.py": "", ".d/e.py": "", "site-packages/f.py": "",
        "pip/_vendor/g.py": "", "__pycache__/h.py": "", "i.txt": "", "j.py": "",
    }  # fmt: skip
    assert set(by_title(symbols(write(tmp_path / "lib", files)))) == {"j"}


def test_a_docstring_with_a_lone_surrogate_can_be_written_as_utf8(tmp_path: Path) -> None:
    found = by_title(symbols(write(tmp_path / "lib", {"m.py": '"""a \\ud800 b"""'})))
    assert found["m"].body.encode() == b"a ? b"


def test_the_current_folder_and_pythonpath_are_not_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, installed = tmp_path / "own", tmp_path / "venv" / "site-packages"
    own.mkdir()
    installed.mkdir(parents=True)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(own), str(installed), str(installed)])
    standard_library, *others = import_roots()
    assert (standard_library / "json" / "__init__.py").is_file()
    assert others == [installed]


def test_built_in_names_are_there_although_they_have_no_source() -> None:
    found = by_title(PythonSymbols([], LOG))
    assert found["builtins.open"].body.startswith("Open file")
    assert found["builtins.str.join"].kind == "method"
    assert found["time.sleep"].kind == "function"
    assert "builtins.exit" not in found


# Folders


def test_a_folder_yields_one_document_for_each_text_file_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "b/notes.txt": "plain\n",
            "a.md": "intro\n\n# The *title*\nbody\n",
            "c.HTML": "<html><title> A &amp; B </title><style>p{}</style><p>Some <b>bo</b>ld</p><p>text"
            "<script>alert(1)</script>",
            "d.py": "x = 1\n",
            "e.txt": b"\xef\xbb\xbfmarked",
        },
    )
    documents = list(Folder(tmp_path, LOG).documents())
    assert [(d.path, d.kind, d.title, d.body) for d in documents] == [
        ("a.md", "markdown", "The *title*", "intro\n\n# The *title*\nbody\n"),
        ("c.HTML", "html", "A & B", "Some bold\ntext"),
        ("d.py", "source", "d.py", "x = 1\n"),
        ("e.txt", "text", "e.txt", "marked"),
        ("b/notes.txt", "text", "notes.txt", "plain\n"),
    ]


def test_hidden_binary_empty_and_foreign_files_are_skipped(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".git/a.txt": "x", "node_modules/b.js": "x", ".hidden.txt": "x", "photo.png": "x",
            "binary.txt": b"a\0b", "empty.txt": " \n", "good.txt": "x",
        },
    )  # fmt: skip
    corpus = Folder(tmp_path, LOG)
    assert list(by_title(corpus)) == ["good.txt"]
    assert corpus.skipped == {"other ending": 1, "binary": 1, "empty": 1}
    assert corpus.done == corpus.total == 3


def test_links_and_pipes_are_not_opened(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", {"secret.txt": "secret"})
    inside = write(tmp_path / "inside", {"good.txt": "x"})
    (inside / "file.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe.txt")
    corpus = Folder(inside, LOG)
    assert list(by_title(corpus)) == ["good.txt"]
    assert corpus.skipped == {"not a regular file": 2}


def test_of_a_big_file_the_first_mebibyte_is_indexed(tmp_path: Path) -> None:
    text = "é" * MAX_FILE_BYTES
    corpus = Folder(write(tmp_path, {"big.txt": "x" + text}), LOG)
    assert by_title(corpus)["big.txt"].body == "x" + "é" * (MAX_FILE_BYTES // 2 - 1)
    assert corpus.skipped == {"truncated": 1}


def test_a_file_name_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.txt")).write_text("x")
    (document,) = Folder(tmp_path, LOG).documents()
    assert document.title.encode() == document.path.encode() == b"bad?.txt"


# JSON lines


def json_lines(path: Path, *, title: str = "title", body: str = "body") -> JsonLines:
    return JsonLines(path, title, body, LOG)


def test_a_json_line_keeps_its_other_scalar_fields_as_metadata(tmp_path: Path) -> None:
    value = {
        "name": " N ",
        "text": "T",
        "year": 1999,
        "open": True,
        "score": 0.5,
        "tags": ["x"],
        "none": None,
    }
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(value).encode() + b"\r\n\n")
    (document,) = json_lines(path, title="name", body="text").documents()
    assert (document.title, document.body, document.kind, document.line) == ("N", "T", "record", 1)
    assert document.metadata == {"year": 1999, "open": True, "score": 0.5}


def test_a_line_without_a_title_is_called_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "one"}\n\n{"body": "two"}')
    corpus = json_lines(path)
    assert [document.title for document in corpus.documents()] == ["a.jsonl:1", "a.jsonl:3"]
    assert corpus.done == corpus.total


@pytest.mark.parametrize(
    "line",
    [b"{", b"[1]", b'"text"', b"{}", b'{"title": 1}', b'{"title": "t", "body": ["b"]}', b'{"title": "t", "x": NaN}',
     b"\xff\xfe\xfa", b"[" * 100_000, b'{"title": "' + b"x" * MAX_LINE_BYTES + b'"}'],
)  # fmt: skip
def test_a_malformed_line_is_counted_and_named_and_the_others_go_on(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"title": "before"}\n' + line + b'\n{"title": "after"}\n')
    corpus = json_lines(path)
    assert list(by_title(corpus)) == ["before", "after"]
    assert corpus.skipped == {"malformed": 1}
    assert f"line 2 of {path}" in caplog.text


def test_a_line_one_byte_too_long_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    line = b'{"title": "x"}'.ljust(MAX_LINE_BYTES) + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line + b'{"title": "after"}\n')
    assert list(by_title(json_lines(tmp_path / "a.jsonl"))) == ["after"]


def test_not_every_malformed_line_of_a_bad_file_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("nonsense\n" * 1000)
    corpus = json_lines(path)
    assert list(corpus.documents()) == []
    assert corpus.skipped == {"malformed": 1000}
    assert len(caplog.records) < 30


# Which corpus a name means


def test_a_name_is_python_or_a_folder_or_a_file(tmp_path: Path) -> None:
    def kind(name: str) -> str:
        return open_corpus(name, title_field="t", body_field="b", log=LOG).kind

    write(tmp_path, {"a.jsonl": ""})
    assert [kind("python"), kind(str(tmp_path)), kind(str(tmp_path / "a.jsonl"))] == [
        "python",
        "folder",
        "json-lines",
    ]


def test_a_corpus_that_does_not_exist_is_a_permanent_failure_that_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=str(tmp_path / "nowhere")):
        open_corpus(str(tmp_path / "nowhere"), title_field="t", body_field="b", log=LOG)
