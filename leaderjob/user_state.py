"""The user's folder for state that survives restarts."""

import os
from collections.abc import Mapping
from pathlib import Path

from leaderjob.errors import SettingsError


def state_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """``$XDG_STATE_HOME/leaderjob``, or ``~/.local/state/leaderjob``.

    As the XDG base directory specification has it, a relative ``XDG_STATE_HOME`` counts as unset.

    :raises SettingsError: this user has no home directory.
    """
    stated = environment.get("XDG_STATE_HOME", "")
    if stated.startswith("/"):
        return Path(stated) / "leaderjob"
    try:
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    except RuntimeError:
        raise SettingsError(
            "there is no folder to keep state in, because this user has no home directory: "
            "set HOME or XDG_STATE_HOME, or name a directory for a replica with --state-dir"
        ) from None
    return home / ".local" / "state" / "leaderjob"
