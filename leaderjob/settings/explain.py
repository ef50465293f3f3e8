"""Errors about settings, in words that help: which one, what is wrong, and what was probably meant.

Values are left to the validators' own words: none of them quotes a secret.
"""

import difflib
from collections.abc import Mapping

from pydantic import ValidationError

from leaderjob.errors import SettingsError
from leaderjob.settings.described import override_table, tables, variable_names
from leaderjob.settings.root import PREFIX, Settings

_NOT_OURS = (
    "LEADERJOB_RUN_",
    "LEADERJOB_FENCING_TOKEN",
    "LEADERJOB_ITEM_",
    "LEADERJOB_SERVICE_",
    "LEADERJOB_PORT",
)
"""What a run is told, what runs under a lock or on an item of a queue, and what Kubernetes injects for a Service that is called leaderjob."""


def explain(error: ValidationError) -> str:
    """Every problem, a sentence each."""
    sentences = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        path = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            sentences.append(f"unknown setting {path!r}{_suggestion(path, _all_paths(path))}")
        elif problem["type"] == "model_type":
            sentences.append(f"setting {path!r}: it is a table of settings, not a value: write [{path}]")
        else:
            sentences.append(f"setting {path!r}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(sentences)


def check_variables(environment: Mapping[str, str]) -> None:
    """:raises SettingsError: a variable has our prefix and sets nothing."""
    known = variable_names()
    for name in environment:
        # Variables are understood in lower case, too.
        variable = name.upper()
        if variable.startswith(PREFIX) and variable not in known and not variable.startswith(_NOT_OURS):
            path = variable.removeprefix(PREFIX).lower().replace("_", ".", 1)
            paths = {path: variable for variable, path in known.items()}
            raise SettingsError(f"the variable {name} sets nothing{_suggestion(path, paths)}")


def _all_paths(wrong: str) -> dict[str, str]:
    """What could stand in the file in place of ``wrong``, each as it is written in messages."""
    if wrong.startswith("overrides."):
        job = wrong.rpartition(".")[0]
        names = [f"{job}.{setting.name}" for setting in override_table().settings]
    else:
        names = [*Settings.model_fields, *(s.path for table in tables() for s in table.settings)]
    return {name: name for name in names}


def _suggestion(wrong: str, known: Mapping[str, str]) -> str:
    """The end of a sentence about ``wrong``: what was probably meant, or what there is.

    :param known: the path of each setting, and how it is called in the sentence.
    """
    group, _, name = wrong.rpartition(".")
    siblings = {path.rpartition(".")[2]: path for path in known if path.rpartition(".")[0] == group}
    elsewhere = [path for path in known if "." in path and path.rpartition(".")[2] == name]
    below = [path for path in known if path.startswith(f"{wrong}.")]
    if elsewhere:
        meant = elsewhere
    elif near := difflib.get_close_matches(name, siblings, n=1):
        meant = [siblings[near[0]]]
    else:
        meant = difflib.get_close_matches(wrong, known, n=1, cutoff=0.75)
    if meant:
        return f"; did you mean {' or '.join(known[path] for path in meant)}?"
    listed = below or (list(siblings.values()) if group else []) or list(known)
    return f"; known are {', '.join(sorted(known[path] for path in listed))}"
