"""What there is to set, for pages, messages and a new settings file: read from the models."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from leaderjob.settings.group import Group
from leaderjob.settings.override import JobOverride
from leaderjob.settings.root import PREFIX, Settings


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    :param group: its table in the file; empty for those outside of any.
    :param meaning: a sentence or two, in one line of Markdown.
    :param default: as it would be written in the file; None: there is none, or it follows from others.
    :param example: a value that could be set where there is no default; may be None.
    """

    group: str
    name: str
    meaning: str
    default: Any
    example: Any

    @property
    def path(self) -> str:
        return f"{self.group}.{self.name}" if self.group else self.name

    @property
    def variable(self) -> str:
        return PREFIX + self.path.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class Table:
    """A group of settings, or with an empty name those outside of any."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def tables() -> Iterator[Table]:
    """Every table except those of overrides, in the order of their definition."""
    yield Table("", "", tuple(_settings("", Settings.model_fields)))
    for name, kind in _groups():
        yield Table(name, _one_line(kind.__doc__), tuple(_settings(name, kind.model_fields)))


def override_table() -> Table:
    """What can be overridden for one job."""
    settings = tuple(_settings("overrides.<job>", JobOverride.model_fields))
    return Table("overrides.<job>", _one_line(JobOverride.__doc__), settings)


def variable_names() -> dict[str, str]:
    """Each environment variable that is understood, and the setting that it sets."""
    return {setting.variable: setting.path for table in tables() for setting in table.settings}


def _groups() -> Iterator[tuple[str, type[Group]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            yield name, field.annotation


def _settings(group: str, fields: dict[str, FieldInfo]) -> Iterator[Setting]:
    groups = dict(_groups()) if not group else {}
    for name, field in fields.items():
        if name not in groups:
            example = field.examples[0] if field.examples else None
            yield Setting(group, name, _one_line(field.description), _default(field), example)


def _default(field: FieldInfo) -> Any:
    value = field.default
    if value is PydanticUndefined or value in (None, (), {}) or isinstance(value, SecretStr):
        return None
    # All our floats are durations.
    return f"{value:g}s" if isinstance(value, float) else value


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
