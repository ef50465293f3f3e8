"""Corpus ``python``: what the running Python offers, read from its source files.

Files are parsed with :mod:`ast` and never imported, so indexing a package cannot run its code. What is
written in C has no Python source and is therefore absent, except for the built-in names (``open``,
``str.join``) and a few modules of the standard library in which everybody looks things up.
"""

import ast
import builtins
import inspect
import itertools
import logging
import math
import os
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from .document import MAX_BODY_CHARS, MAX_TITLE_CHARS, Document, unicode_text

MAX_SOURCE_BYTES = 4 << 20
"""A longer source file is generated code or a table, and its syntax tree is many times its size."""

MAX_SIGNATURE_CHARS = 500

_COMPILED_MODULES = (builtins, itertools, math, sys, time)
_STDLIB_TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})
_LEFT_OUT_FOLDERS = frozenset({"__pycache__", "_vendor"})
"""A vendored package is a private copy: whoever searches means the real one."""

_SITE_FOLDERS = frozenset({"site-packages", "dist-packages"})

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


class PythonSymbols:
    """Modules, classes, functions and methods below some import roots, by qualified name.

    A root is a folder that is searched for imports. The first definition of a name wins, as it does
    for ``import``. Unreadable and unparsable files are counted and logged.
    """

    kind = "python"
    taken = "the .py files of the standard library and of the installed packages"

    def __init__(self, roots: Sequence[Path], log: logging.Logger, *, compiled: bool = True) -> None:
        self.done = 0
        self.skipped: Counter[str] = Counter()
        self._log = log
        self._compiled = _COMPILED_MODULES if compiled else ()
        self._files = [(root, path) for root in roots for path in _source_files(root)]
        self.total = len(self._files)

    def documents(self) -> Iterator[Document]:
        """Yield the compiled modules, then file by file."""
        seen: set[str] = set()
        for module in self._compiled:
            yield from _first_of_each(_compiled_documents(module), seen)
        for root, path in self._files:
            yield from _first_of_each(self._file(root, path), seen)
            self.done += 1

    def _file(self, root: Path, path: Path) -> Iterator[Document]:
        try:
            if path.stat().st_size > MAX_SOURCE_BYTES:
                self.skipped["too large"] += 1
                self._log.info("left out %s: more than %d MiB of source", path, MAX_SOURCE_BYTES >> 20)
                return
            tree = _parse(path)
        except OSError as error:
            self.skipped["unreadable"] += 1
            self._log.warning("left out %s: it cannot be read (%s)", path, error)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # The last two are how the parser reports source that is nested too deeply.
            self.skipped["unparsable"] += 1
            self._log.info("left out %s: this Python cannot parse it (%s)", path, error)
        else:
            yield from _ModuleReader(root, path).documents(tree)


def import_roots() -> list[Path]:
    """The folders of the running Python that hold its standard library and its installed packages.

    These are the standard library's folder and every ``site-packages`` (``dist-packages`` on Debian)
    on ``sys.path``. Other entries of ``sys.path`` (the current folder, ``PYTHONPATH``, the sources of
    an editable install) are a developer's own and stay out.
    """
    standard_library = Path(sysconfig.get_path("stdlib"))
    installed = [Path(entry) for entry in sys.path if Path(entry).name in _SITE_FOLDERS]
    roots = dict.fromkeys(root.resolve() for root in [standard_library, *installed])
    return [root for root in roots if root.is_dir()]


def _is_standard_library(root: Path) -> bool:
    return root.name not in _SITE_FOLDERS


def _source_files(root: Path) -> Iterator[Path]:
    """The importable ``.py`` files below ``root``, sorted; tests of the standard library left out."""
    left_out = _LEFT_OUT_FOLDERS | (_STDLIB_TEST_FOLDERS if _is_standard_library(root) else set())
    for folder, subfolders, names in os.walk(root):
        # Only an identifier can be imported: this drops hidden folders, *.dist-info and site-packages.
        subfolders[:] = sorted(n for n in subfolders if n.isidentifier() and n not in left_out)
        for name in sorted(names):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 - thousands of names, no Path needed
            if ending == ".py" and stem.isidentifier():
                yield Path(folder, name)


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        # Other people's invalid escapes are not what whoever runs this job wants to read about.
        warnings.simplefilter("ignore")
        return ast.parse(path.read_bytes(), str(path))


def _first_of_each(documents: Iterable[Document], seen: set[str]) -> Iterator[Document]:
    for document in documents:
        if document.title not in seen:
            seen.add(document.title)
            yield document


class _ModuleReader:
    """Turns the tree of one file into documents."""

    def __init__(self, root: Path, path: Path) -> None:
        relative = path.relative_to(root)
        parts = relative.with_suffix("").parts
        self._module = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
        self._path = relative.as_posix()
        self._origin = ("stdlib",) if _is_standard_library(root) else ()

    def documents(self, tree: ast.Module) -> Iterator[Document]:
        yield self._document("module", (), 1, ast.get_docstring(tree) or "", "")
        yield from self._definitions(tree.body, (), in_class=False)

    def _definitions(
        self, body: Iterable[ast.stmt], outer: tuple[str, ...], *, in_class: bool
    ) -> Iterator[Document]:
        for node in _definitions_in(body):
            symbol = (*outer, node.name)
            doc = ast.get_docstring(node) or ""
            if isinstance(node, ast.ClassDef):
                yield self._document("class", symbol, node.lineno, doc, _class_signature(node))
                yield from self._definitions(node.body, symbol, in_class=True)
            elif not _is_overload(node):
                kind = "method" if in_class else "function"
                yield self._document(kind, symbol, node.lineno, doc, _function_signature(node))

    def _document(self, kind: str, symbol: tuple[str, ...], line: int, doc: str, signature: str) -> Document:
        title = ".".join(self._module + symbol)
        return Document(
            title=unicode_text(title, MAX_TITLE_CHARS),
            kind=kind,
            path=self._path,
            line=line,
            body=unicode_text(doc, MAX_BODY_CHARS),
            signature=unicode_text(signature, MAX_SIGNATURE_CHARS),
            aliases=_aliases(self._module, symbol),
            tiers=(*self._origin, *_tiers(self._module, symbol, kind)),
        )


def _aliases(module: Sequence[str], symbol: Sequence[str]) -> tuple[str, ...]:
    """Other names for ``module.symbol``: its endings, and its name where a parent package re-exports it.

    ``asyncio.tasks.gather`` is looked for as ``gather``, ``tasks.gather`` and ``asyncio.gather``.
    """
    whole = (*module, *symbol)
    endings = [whole[start:] for start in range(1, len(whole))]
    exported = [(*module[:length], *symbol) for length in range(1, len(module)) if symbol]
    return tuple(dict.fromkeys(".".join(parts) for parts in [*endings, *exported]))


def _tiers(module: Sequence[str], symbol: Sequence[str], kind: str) -> tuple[str, ...]:
    """What speaks for a name: public and no test, directly in an importable package, not a method."""
    private = any(part.startswith("_") or part in _STDLIB_TEST_FOLDERS for part in (*module, *symbol))
    held = {"public": not private, "shallow": len(module) == 1, "top": kind != "method"}
    return tuple(tier for tier, holds in held.items() if holds)


def _definitions_in(body: Iterable[ast.stmt]) -> Iterator[_Definition]:
    """Definitions in a body, those under ``if``, ``try`` and ``with`` too, not those inside functions."""
    for node in body:
        if isinstance(node, _Definition):
            yield node
        elif isinstance(node, ast.If):
            yield from _definitions_in([*node.body, *node.orelse])
        elif isinstance(node, ast.Try | ast.TryStar):
            handled = [statement for clause in node.handlers for statement in clause.body]
            yield from _definitions_in([*node.body, *handled, *node.orelse, *node.finalbody])
        elif isinstance(node, ast.With):
            yield from _definitions_in(node.body)


def _is_overload(node: _Function) -> bool:
    names = (d.attr if isinstance(d, ast.Attribute) else getattr(d, "id", "") for d in node.decorator_list)
    return "overload" in names


def _function_signature(node: _Function) -> str:
    prefix = "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{prefix}{node.name}({ast.unparse(node.args)}){returns}"


def _class_signature(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
    return f"class {node.name}({bases})" if bases else f"class {node.name}"


def _compiled_documents(module: ModuleType) -> Iterator[Document]:
    """The functions and types of a module that is written in C, with the types' public methods."""
    home = module.__name__
    yield _compiled_document("module", home, (), module)
    for name, value in sorted(vars(module).items()):  # a copy: inspecting may change it
        # What `site` adds to the built-in names (exit, help) is neither and is for the prompt only.
        if name.startswith("_") or not (isinstance(value, type) or inspect.isbuiltin(value)):
            continue
        yield _compiled_document("class" if isinstance(value, type) else "function", home, (name,), value)
        if isinstance(value, type):
            for method_name, method in sorted(vars(value).items()):
                if callable(method) and not method_name.startswith("_"):
                    yield _compiled_document("method", home, (name, method_name), method)


def _compiled_document(kind: str, module: str, symbol: tuple[str, ...], value: object) -> Document:
    origin = ("stdlib", "builtin") if module == builtins.__name__ else ("stdlib",)
    return Document(
        title=".".join((module, *symbol)),
        kind=kind,
        path="(built-in)",
        line=0,
        body=inspect.getdoc(value) or "",
        signature=_compiled_signature(symbol, value),
        aliases=_aliases((module,), symbol),
        tiers=(*origin, *_tiers((module,), symbol, kind)),
    )


def _compiled_signature(symbol: tuple[str, ...], value: object) -> str:
    if isinstance(value, type):
        return f"class {symbol[-1]}"
    if not callable(value):
        return ""
    try:
        return f"def {symbol[-1]}{inspect.signature(value)}"
    except ValueError:  # some C functions (dict.pop, iter) do not say
        return f"def {symbol[-1]}(...)"
