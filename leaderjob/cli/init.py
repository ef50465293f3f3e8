"""``leaderjob init``: a settings file and a first job, to begin with."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from leaderjob.errors import SettingsError
from leaderjob.settings import CONFIG_FILE, Setting, Table, override_table, tables

_SET = {"jobs": ["jobs.hello"], "etcd.endpoints": ["127.0.0.1:2379"]}
_WIDTH = 100
_INTRODUCTION = (
    "Settings of leaderjob. Lines that begin with '#' and no space are settings that are not set: each has its "
    "default, or an example. Variables (LEADERJOB_<TABLE>_<NAME>) and flags win over this file; "
    "'leaderjob settings' shows what is in force and where it was set."
)
_JOB = '''"""A first job. Change it, or put others beside it and name their modules in leaderjob.toml."""

from leaderjob import JobContext, job


@job(schedule="every 30s", timeout="1m")
def hello(ctx: JobContext, name: str = "world") -> dict[str, str]:
    """Greet somebody: in a file that every replica gets a copy of, and in a small result."""
    greeting = f"Hello, {name}!"
    (ctx.artifact_dir() / "hello.txt").write_text(greeting + "\\n")
    return {"greeting": greeting}
'''
_PACKAGE = '"""The jobs that run here: one module each."""\n'


class FileIsThere(SettingsError):
    """A file that was to be written exists; the message names it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} exists already, and nothing was written: remove it, or name another folder "
            "('leaderjob init DIR')"
        )


@click.command()
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def init(directory: Path) -> None:
    """Write a commented leaderjob.toml and a first job into DIR [the current directory].

    Nothing that exists is overwritten.
    """
    files = {CONFIG_FILE: settings_file(), "jobs/hello.py": _JOB}
    if not (directory / "jobs" / "__init__.py").exists():
        files["jobs/__init__.py"] = _PACKAGE
    _write(directory, files)
    for name in files:
        click.echo(f"wrote {directory / name}", err=True)
    click.echo("next, with an etcd at 127.0.0.1:2379 and a terminal for each:", err=True)
    change = "" if _is_current(directory) else f"cd {shlex.quote(str(directory))} && "
    click.echo(f"{change}leaderjob run --id r1")
    click.echo(f"{change}leaderjob trigger hello --wait")


def settings_file() -> str:
    """The text of a ``leaderjob.toml`` with everything that can be set, all but the necessary in comments."""
    overrides = override_table()
    job = Table(overrides.name.replace("<job>", "hello"), overrides.meaning, overrides.settings)
    lines = [*_prose(_INTRODUCTION), ""]
    for table in tables():
        lines += _table(table)
    return "\n".join([*lines, *_table(job, header_mark="#")])


def _table(table: Table, *, header_mark: str = "") -> Iterator[str]:
    if table.name:
        yield from _prose(table.meaning)
        yield f"{header_mark}[{table.name}]"
    for setting in table.settings:
        if setting.path != "overrides":
            yield from _prose(setting.meaning)
            yield _assignment(setting)
    yield ""


def _assignment(setting: Setting) -> str:
    if setting.path in _SET:
        return f"{setting.name} = {_toml(_SET[setting.path])}"
    if setting.default is not None:
        return f"#{setting.name} = {_toml(setting.default)}"
    return f"#{setting.name} = {_toml(setting.example)}  # for example"


def _prose(text: str) -> Iterator[str]:
    return (f"# {line}" for line in wrap(text, _WIDTH - 2))


def _toml(value: Any) -> str:
    """TOML of strings, booleans, numbers, and of lists and tables of them: but for tables, JSON is."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(entry)}" for name, entry in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _is_current(directory: Path) -> bool:
    try:
        return directory.samefile(Path())
    except OSError:  # the current directory is gone
        return False


def _write(directory: Path, files: Mapping[str, str]) -> None:
    """:raises FileIsThere: before anything was written. :raises SettingsError: something cannot be written."""
    paths = {directory / name: text for name, text in files.items()}
    for path in paths:
        if path.exists() or path.is_symlink():
            raise FileIsThere(path)
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be written: {error.strerror}; name a folder that this user may write to"
        ) from error
