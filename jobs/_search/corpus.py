"""Which corpus a name means."""

import logging
from pathlib import Path

from leaderjob import Permanent

from .document import Corpus
from .folder import Folder
from .json_lines import JsonLines
from .python_symbols import PythonSymbols, import_roots


def open_corpus(name: str, *, title_field: str, body_field: str, log: logging.Logger) -> Corpus:
    """The corpus called ``name``: ``python``, the path of a folder, or the path of a JSON-lines file.

    :param title_field: the field of a JSON line that holds its title; ``body_field``: its text.
    :raises Permanent: nothing is there; trying again would not help.
    """
    if name == "python":
        return PythonSymbols(import_roots(), log)
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        return Folder(path, log)
    if path.is_file():
        return JsonLines(path, title_field, body_field, log)
    raise Permanent(
        f"the corpus {name!r} does not exist: there is no folder and no regular file at {path} on this "
        "machine, so there is nothing to build an index of. Give 'python', or the path of a folder or of a "
        "JSON-lines file that every replica has"
    )
