"""Settings: frozen groups, validated when they are made.

Read from ``leaderjob.toml``, then ``LEADERJOB_<GROUP>_<NAME>`` variables, then flags, the later ones
winning. Lists are comma-separated or JSON, durations ``10`` (seconds), ``10s``, ``5m``.
"""

import difflib
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from leaderjob.durations import parse_duration_s
from leaderjob.errors import InvalidDuration, SettingsError
from leaderjob.names import valid_name
from leaderjob.user_state import state_folder

PREFIX = "LEADERJOB_"
CONFIG_FILE = "leaderjob.toml"
_NOT_OURS = ("LEADERJOB_RUN_", "LEADERJOB_SERVICE_", "LEADERJOB_PORT")
"""What a run is told, and what Kubernetes injects for a Service that is called leaderjob."""


def _seconds(value: Any) -> float:
    try:
        return parse_duration_s(value)
    except InvalidDuration as error:
        raise ValueError(str(error)) from error


def _list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    return (
        json.loads(text)
        if text.startswith("[")
        else [part.strip() for part in text.split(",") if part.strip()]
    )


def _object(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _name(value: str) -> str:
    if not valid_name(value):
        raise ValueError(
            f"{value!r} is not a name: lower-case letters, digits, '.', '_' and '-', at most 120"
        )
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]
Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Name = Annotated[str, BeforeValidator(_name)]


def _default_id() -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower())
    return plain[:120].strip("-") or "replica"


class _Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )


class EtcdSettings(_Group):
    """Where etcd is, and what in it is ours."""

    endpoints: Names = ()
    """The endpoints, ``HOST:PORT`` each; they are tried in turn."""
    namespace: Name = "default"
    """All keys are below ``/leaderjob/<namespace>/``: one namespace is one cluster of replicas."""


class ReplicaSettings(_Group):
    """This replica."""

    id: Name = Field(default_factory=_default_id)
    """Its name, stable across restarts; by default the host's."""
    state_dir: Path | None = None
    """Where it keeps what it serves; by default below the user's state folder."""
    listen: str = "127.0.0.1:0"
    """Where it answers queries (gRPC). Port 0 takes a free one."""
    listen_http: str | None = None
    """Where it hands out published files; by default the same host and a free port."""
    advertise: str | None = None
    """The address at which others reach ``listen``, where that differs."""
    insecure: bool = False
    """Listen on other than loopback addresses although nothing is encrypted."""


class ElectionSettings(_Group):
    """How leadership keeps time."""

    ttl: Seconds = 10.0
    """How long a lease outlives its last keepalive, in whole seconds."""
    margin: Seconds | None = None
    """How much earlier than the lease a leader stops trusting itself; 2s by default, a quarter of a TTL
    below 8s."""
    keepalive: Seconds | None = None
    """The pause between keepalives; a fifth of the TTL by default."""
    kill_grace: Seconds | None = None
    """How long a worker has between TERM and KILL; half of the margin by default."""
    takeover_fast: bool = True
    """Take over at once when the leader's process is seen to be gone, not after the TTL."""

    @property
    def margin_s(self) -> float:
        """The margin in force."""
        return self.margin if self.margin is not None else min(2.0, self.ttl / 4)

    @property
    def kill_grace_s(self) -> float:
        """The kill grace in force."""
        return self.kill_grace if self.kill_grace is not None else self.margin_s / 2

    @model_validator(mode="after")
    def _timing_fits(self) -> Self:
        if not 0 < self.margin_s < self.ttl / 2:
            raise ValueError(
                f"margin {self.margin_s:g}s must be above 0 and below half of the ttl of {self.ttl:g}s"
            )
        if self.kill_grace_s > self.margin_s:
            raise ValueError(
                f"kill_grace {self.kill_grace_s:g}s must not exceed the margin of {self.margin_s:g}s"
            )
        if self.keepalive is not None and not 0 < self.keepalive <= self.ttl / 3:
            raise ValueError(
                f"keepalive {self.keepalive:g}s must be above 0 and at most a third of the ttl of {self.ttl:g}s"
            )
        return self


class ResultsSettings(_Group):
    """How results are published and kept."""

    keep: Annotated[int, Field(ge=1)] = 1
    """How many versions before the current one a replica keeps."""
    publish_after: Annotated[int, Field(ge=0)] = 1
    """How many followers must hold a verified copy before a version is published."""
    publish_timeout: Seconds = 60.0
    """How long the leader waits for them; then it publishes all the same, and says so."""
    keep_runs: Annotated[int, Field(ge=1)] = 100
    """How many finished runs of a job stay in the ledger."""


class JobOverride(_Group):
    """What is different for one job from what its module says: ``[overrides.<job>]``."""

    schedule: (
        Annotated[tuple[str, ...], BeforeValidator(lambda v: [v] if isinstance(v, str) and v else v or [])]
        | None
    ) = None
    """The schedule; an empty one means that it only runs when triggered."""
    timeout: Seconds | None = None
    """How long one attempt may take."""
    params: dict[str, Any] = {}
    """Values for the job's parameters."""


class Settings(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )

    jobs: Names = ()
    """The job modules to run: ``jobs.search_index`` and the like."""
    etcd: EtcdSettings = EtcdSettings()
    replica: ReplicaSettings = Field(default_factory=ReplicaSettings)
    election: ElectionSettings = ElectionSettings()
    results: ResultsSettings = ResultsSettings()
    overrides: Annotated[dict[str, JobOverride], BeforeValidator(_object)] = {}
    """Per job, what is different from what its module says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @property
    def state_dir(self) -> Path:
        return self.replica.state_dir or state_folder() / "replicas" / self.etcd.namespace / self.replica.id


def load_settings(config: Path | None, flags: Mapping[str, Mapping[str, Any] | Any]) -> Settings:
    """Settings from the file, the environment and ``flags`` (groups of names; None is left out).

    :param config: the file; by default ``leaderjob.toml`` in the current directory, if there is one.
    :raises SettingsError: something cannot be understood; the message names it.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"the settings file {config} does not exist or is not a file")
    path = config or Path(CONFIG_FILE)
    _check_environment(os.environ)

    class _FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path if path.is_file() else None)

    try:
        return _FromFile(**_present(flags))
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error
    except ValueError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from error


def variable_names() -> dict[str, str]:
    """Each environment variable that is understood, and the setting that it sets."""
    names = {}
    for group, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Group):
            names.update({f"{PREFIX}{group}_{name}".upper(): f"{group}.{name}" for name in kind.model_fields})
        else:
            names[f"{PREFIX}{group}".upper()] = group
    return names


def _check_environment(environment: Mapping[str, str]) -> None:
    known = variable_names()
    for name in environment:
        if name.startswith(PREFIX) and name not in known and not name.startswith(_NOT_OURS):
            raise SettingsError(f"the variable {name} sets nothing{_nearest(name, known)}")


def _present(flags: Mapping[str, Any]) -> dict[str, Any]:
    present: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, Mapping):
            if inner := {key: entry for key, entry in value.items() if entry is not None}:
                present[name] = inner
        elif value is not None:
            present[name] = value
    return present


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            known = [*variable_names().values(), *(f"overrides.{part}" for part in JobOverride.model_fields)]
            lines.append(f"unknown setting {where!r}{_nearest(where, known)}")
        else:
            lines.append(f"setting {where!r}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)


def _nearest(name: str, known: Mapping[str, Any] | list[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
