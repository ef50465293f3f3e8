"""The Tantivy index on disk: its fields, how it is written, and how it is opened where nothing may be written.

Layout of a published directory::

    index.json          what was indexed (written by the job)
    index/meta.json     Tantivy's list of segments and fields
    index/<segment>.*   the segments
"""

import json
import re
import tempfile
import uuid
from collections import defaultdict
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leaderjob import Permanent

from .document import Document

if TYPE_CHECKING:
    import tantivy

WRITER_HEAP_BYTES = 128 << 20
"""Per thread. What does not fit makes a second segment: below this, a rebuild is one segment."""

_META = "meta.json"
_CAMEL_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def load_tantivy() -> Any:
    """The module ``tantivy``, imported only here: listing or checking jobs does not need it.

    :raises Permanent: it is not installed.
    """
    try:
        return import_module("tantivy")
    except ModuleNotFoundError as error:
        if error.name != "tantivy":
            raise
        raise Permanent(
            "the search index cannot be built or opened: the Python package 'tantivy' is not installed. "
            "Install leaderjob[search] on every replica"
        ) from None


def build_schema() -> "tantivy.Schema":
    """The fields. ``raw`` ones hold exact values, the others words (``en_stem``: reduced to their stems)."""
    builder = load_tantivy().SchemaBuilder()
    builder.add_text_field("title", stored=True)
    builder.add_text_field("kind", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("path", stored=True)
    builder.add_integer_field("line", stored=True)
    builder.add_text_field("signature", stored=True)
    builder.add_text_field("body", stored=True, tokenizer_name="en_stem")
    builder.add_json_field("metadata", stored=True)
    # Not stored; these exist for the ranking only.
    builder.add_text_field("summary", tokenizer_name="en_stem")
    builder.add_text_field("words", tokenizer_name="en_stem")
    builder.add_text_field("name", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("alias", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("tier", tokenizer_name="raw", index_option="basic")
    return builder.build()  # type: ignore[no-any-return]


class IndexWriter:
    """Writes documents into a new index, which appears as ``directory`` when it is finished."""

    def __init__(self, directory: Path, *, threads: int) -> None:
        self._tantivy = load_tantivy()
        self._directory = directory
        self._building = directory.with_name(f"{directory.name}.building")
        self._building.mkdir(parents=True)
        index = self._tantivy.Index(build_schema(), str(self._building), reuse=False)
        index.config_reader("manual")
        self._writer = index.writer(WRITER_HEAP_BYTES * threads, threads)
        self.documents = 0

    def add(self, document: Document) -> None:
        fields: dict[str, Any] = {
            "title": document.title,
            "kind": document.kind,
            "path": document.path,
            "line": document.line,
            "signature": document.signature,
            "body": document.body,
            "summary": document.body.partition("\n\n")[0][:500],
            "words": split_words(document.title),
            "name": document.title.lower(),
            "alias": [alias.lower() for alias in document.aliases],
            "tier": list(document.tiers),
        }
        if document.metadata:
            fields["metadata"] = dict(document.metadata)
        self._writer.add_document(self._tantivy.Document(**fields))
        self.documents += 1

    def finish(self) -> None:
        """Commit, wait until no merge is running, and leave only what belongs to the index."""
        self._writer.commit()
        self._writer.wait_merging_threads()
        # Tantivy has a thread that locks and reads the index again when it sees a commit. Under its new
        # name no lock file can appear among files that are about to be published.
        self._building.rename(self._directory)
        _seal(self._directory)


def split_words(title: str) -> str:
    """The words inside identifiers: ``json.JSONDecoder.raw_decode`` → ``json JSON Decoder raw decode``."""
    return " ".join(_CAMEL_BOUNDARY.sub(" ", part) for part in re.findall(r"[^\W_]+", title))


def open_index(directory: Path) -> tuple["tantivy.Index", "tantivy.Searcher"]:
    """Open the index in ``directory`` without writing there.

    Tantivy takes a lock file in the folder that it opens, which a read-only folder refuses. So it is
    shown a folder of links; the files are mapped into memory at once, and the links can go again.

    :raises ValueError: there is no index, or this version of Tantivy does not read it.
    """
    tantivy = load_tantivy()
    if not (directory / _META).is_file():
        raise ValueError(f"{directory} holds no search index: {_META} is missing")
    with tempfile.TemporaryDirectory(prefix="search-index-", ignore_cleanup_errors=True) as scratch:
        links = Path(scratch, "links")
        links.mkdir()
        for file in directory.iterdir():
            (links / file.name).symlink_to(file.resolve())
        index = tantivy.Index.open(str(links))
        # A published version never changes. The default reader would reload whenever it seems to have.
        index.config_reader("manual")
        searcher = index.searcher()
        # The first reader may be reloading in a thread; under another name nothing new is created in here.
        links.rename(Path(scratch, "opened"))
    return index, searcher


def _seal(directory: Path) -> None:
    """Name segments by their content and remove all other files.

    Tantivy names segments at random, leaves its lock files behind, and merged segments too when the merge
    ends after the commit. With names that follow from the content, rebuilding an unchanged corpus (by one
    thread) gives the very same files, so that nothing has to travel to the replicas.
    """
    meta = json.loads((directory / _META).read_text("utf-8"))
    files_of: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(directory.iterdir()):
        files_of[file.name.partition(".")[0]].append(file)
    kept = {_META}
    for segment in meta["segments"]:
        files = files_of[uuid.UUID(segment["segment_id"]).hex]
        name = uuid.UUID(bytes=_content_digest(files))
        for file in files:
            kept.add(file.rename(file.with_name(name.hex + file.suffix)).name)
        segment["segment_id"] = str(name)
    meta["segments"].sort(key=lambda segment: segment["segment_id"])
    for file in directory.iterdir():
        if file.name not in kept:
            file.unlink()
    (directory / _META).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")


def _content_digest(files: list[Path]) -> bytes:
    """16 bytes that identify what is in ``files``, whatever they are called before the ending."""
    digest = blake2b(digest_size=16)
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.suffix}:{len(content)}:".encode())
        digest.update(content)
    return digest.digest()
