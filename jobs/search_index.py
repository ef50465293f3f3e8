"""A full-text search index: the leader builds it, every replica answers queries from its own copy.

In a settings file::

    jobs = ["jobs.search_index"]

By default it indexes what the running Python offers: tens of thousands of modules, classes and
functions, so that ``asyncio gather`` finds ``asyncio.tasks.gather``. Give ``corpus`` the path of a
folder or of a JSON-lines file to index your own. Needs ``leaderjob[search]``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leaderjob import JobContext, Permanent, RetryLater, job

from ._search.answers import Searcher
from ._search.corpus import open_corpus
from ._search.document import Corpus
from ._search.index import IndexWriter

_PROGRESS_STEPS = 200


@job(schedule="17 * * * *", timeout="30m")
def search_index(
    ctx: JobContext,
    corpus: str = "python",
    title_field: str = "title",
    body_field: str = "body",
    writer_threads: int = 1,
) -> dict[str, Any]:
    """Build a full-text index of a corpus.

    :param corpus: ``python``, or the path of a folder or of a JSON-lines file on the replicas.
    :param title_field: where a line of a JSON-lines file has its title; ``body_field``: its text.
    :param writer_threads: 1 makes the index of an unchanged corpus the same file by file, so that
        nothing travels; more build a big one faster.
    :raises Permanent: the corpus does not exist or has nothing to index, or Tantivy is not installed.
    """
    if writer_threads < 1:
        raise Permanent(f"writer_threads is {writer_threads}: it must be at least 1")
    source = open_corpus(corpus, title_field=title_field, body_field=body_field, log=ctx.log)
    out = ctx.artifact_dir()
    writer = IndexWriter(out / "index", threads=writer_threads)
    _write_all(ctx, source, writer)
    if writer.documents == 0:
        raise Permanent(
            f"the corpus {corpus!r} has nothing to index, so nothing is published and the last version stays. "
            f"What is taken: {source.taken}. What was left out: {dict(sorted(source.skipped.items())) or 'nothing'}"
        )
    ctx.progress(source.total, source.total, "merging")
    writer.finish()
    summary = {
        "corpus": corpus,
        "kind": source.kind,
        "documents": writer.documents,
        "skipped": dict(sorted(source.skipped.items())),
    }
    (out / "index.json").write_text(json.dumps({"v": 1, **summary}, indent=2) + "\n", "utf-8")
    return summary


def _write_all(ctx: JobContext, source: Corpus, writer: IndexWriter) -> None:
    step = max(1, source.total // _PROGRESS_STEPS)
    next_report = 0
    for document in source.documents():
        writer.add(document)
        if source.done >= next_report:
            if ctx.cancelled:
                raise RetryLater(0, "asked to stop before the index was complete: nothing is published")
            ctx.progress(source.done, source.total, f"{writer.documents} documents")
            next_report = source.done + step


@search_index.query
def open_index(directory: Path) -> Callable[..., dict[str, Any]]:
    """Open a published version; see :meth:`Searcher.search` for the fields of a query and its answer."""
    return Searcher(directory / "index").search
