"""Settings as a test gives them, undisturbed by those of whoever runs the tests."""

import os
from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError
from leaderjob.settings import PREFIX, load_settings


def leave_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to ``directory``, with none of our variables set and no demo to be found."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_STATE_HOME", str(directory))
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


def file(text: str) -> Path:
    """A settings file in the current directory."""
    path = Path("settings.toml")
    path.write_text(text)
    return path


def refused(config: Path | None = None, **flags: Any) -> str:
    """What is said of these settings, which must not be accepted."""
    with pytest.raises(SettingsError) as caught:
        load_settings(config, flags)
    assert caught.value.exit_code == 2
    return str(caught.value)
