"""Reading settings: the file, then variables, then flags, the later ones winning."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, TomlConfigSettingsSource

from leaderjob.errors import SettingsError
from leaderjob.settings.described import variable_names
from leaderjob.settings.explain import check_variables, explain
from leaderjob.settings.root import Settings

CONFIG_FILE = "leaderjob.toml"

Flags = Mapping[str, Mapping[str, Any] | Any]
"""Values by group and name, or by the name of what is in no group. None: not given."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    :param name: the file's absolute path, the variable's name, or of a flag the setting; None for a default.
    """

    kind: Literal["default", "file", "variable", "flag"]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and for each of :meth:`Settings.in_force` where it came from."""

    settings: Settings
    origins: Mapping[str, Origin]


def load_settings(config: Path | None, flags: Flags) -> Settings:
    """Settings from the file, the environment and ``flags``.

    :param config: the file; by default ``leaderjob.toml`` in the current directory, if there is one.
    :raises SettingsError: something cannot be understood; the message names it.
    """
    return _load(config, flags)[0]


def load_with_origins(config: Path | None, flags: Flags) -> Loaded:
    """As :func:`load_settings`, and where each value came from. :raises SettingsError: as there."""
    settings, given, path, file = _load(config, flags)
    return Loaded(settings, _origins(settings, given, path, file))


def _load(
    config: Path | None, flags: Flags
) -> tuple[Settings, Mapping[str, Any], Path | None, Mapping[str, Any]]:
    """The settings, what of the flags was given, and the file with what is in it."""
    check_variables(os.environ)
    path = _existing(config)
    given = _given(flags)
    file = _read(path)

    try:
        settings = _with_file(file)(**given)
    except ValidationError as error:
        raise SettingsError(explain(error)) from error
    return settings, given, path, file.toml_data


def _with_file(file: PydanticBaseSettingsSource) -> type[Settings]:
    """Settings that are also read from ``file``, below everything else."""

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, file

    return FromFile


def _existing(config: Path | None) -> Path | None:
    try:
        if config is None:
            config = Path(CONFIG_FILE)
            return config if config.is_file() else None
        if not config.is_file():
            raise SettingsError(f"the settings file {config} does not exist or is not a file")
    except OSError as error:
        raise SettingsError(f"the settings file {config} cannot be read: {error.strerror}") from error
    return config


def _read(path: Path | None) -> TomlConfigSettingsSource:
    try:
        return TomlConfigSettingsSource(Settings, toml_file=path)
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"the settings file {path} cannot be read: it is not TOML: {error}") from error


def _given(flags: Flags) -> dict[str, Any]:
    """Only what was given, so that a flag that was not hides nothing."""
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, Mapping):
            if inner := {key: entry for key, entry in value.items() if entry is not None}:
                given[name] = inner
        elif value is not None:
            given[name] = value
    return given


def _origins(
    settings: Settings, flags: Mapping[str, Any], path: Path | None, file: Mapping[str, Any]
) -> dict[str, Origin]:
    variables = variable_names()
    set_by = {variables[name.upper()]: name for name in os.environ if name.upper() in variables}
    origins = {}
    for setting in settings.in_force():
        # A variable sets all overrides together; and a job's name may have dots, as none of our names has.
        place = "overrides" if setting.startswith("overrides.") else setting
        if _has(flags, place):
            origins[setting] = Origin("flag", place)
        elif place in set_by:
            origins[setting] = Origin("variable", set_by[place])
        elif path is not None and _has(file, place):
            origins[setting] = Origin("file", str(path.absolute()))
        else:
            origins[setting] = Origin("default")
    return origins


def _has(values: Mapping[str, Any], setting: str) -> bool:
    """Whether ``values`` have an entry for ``group.name``, or for ``name`` that is in no group."""
    group, _, name = setting.rpartition(".")
    inner = values.get(group, {}) if group else values
    return name in inner
