"""Everything that can be set: the groups together."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from leaderjob.errors import SettingsError
from leaderjob.settings.election import ElectionSettings
from leaderjob.settings.etcd import EtcdSettings
from leaderjob.settings.group import Group
from leaderjob.settings.override import JobOverride
from leaderjob.settings.replica import ReplicaSettings, TlsSettings
from leaderjob.settings.reporting import LogSettings, SentrySettings
from leaderjob.settings.values import FROM_JSON, Names, Seconds
from leaderjob.user_state import state_folder

PREFIX = "LEADERJOB_"
"""Of the variables. What begins with it and sets nothing is an error, with few exceptions."""


class ResultsSettings(Group):
    """How results are published and kept."""

    keep: Annotated[int, Field(ge=1)] = 1
    """How many versions before the current one a replica keeps."""
    publish_after: Annotated[int, Field(ge=0)] = 1
    """How many followers must hold a verified copy before a version is published."""
    publish_timeout: Seconds = 60.0
    """How long the leader waits for them; then it publishes all the same, and says so."""
    keep_runs: Annotated[int, Field(ge=1)] = 100
    """How many finished runs of a job stay in the ledger; the last one that succeeded stays in any case."""
    keep_skipped: Annotated[int, Field(ge=1)] = 100
    """How many fires of a job that never began a run, because they were skipped or missed, stay in the ledger."""

    remove_after: Seconds = 600.0
    """After how long a job that no live replica has is removed, if every module of the leader loaded: its unfinished runs
    end, its fires stop, and its history stays until `leaderjob forget`."""


class ExecutionSettings(Group):
    """How jobs are brought to run."""

    import_timeout: Annotated[Seconds, Field(gt=0)] = 30.0
    """How long the import of a job module may take. One that fails or takes longer is tried again, after a pause
    that grows from 2 s to 5 minutes; the other modules do not wait for it."""


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
        hide_input_in_errors=True,
    )

    jobs: Names = Field(default=(), examples=[["jobs.hello"]])
    """The job modules to run: `jobs.search_index` and the like."""
    etcd: EtcdSettings = Field(default_factory=EtcdSettings)
    replica: ReplicaSettings = Field(default_factory=ReplicaSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    election: ElectionSettings = Field(default_factory=ElectionSettings)
    execution: ExecutionSettings = Field(default_factory=ExecutionSettings)
    results: ResultsSettings = Field(default_factory=ResultsSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    sentry: SentrySettings = Field(default_factory=SentrySettings)
    overrides: Annotated[dict[str, JobOverride], FROM_JSON] = {}
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
        return init_settings, env_settings

    @property
    def state_dir(self) -> Path:
        """Where this replica keeps what it serves.

        :raises SettingsError: none is set, and this user has no home directory.
        """
        return self.replica.state_dir or state_folder() / "replicas" / self.etcd.namespace / self.replica.id

    def in_force(self) -> dict[str, Any]:
        """Each setting by its name (``election.ttl``), with its value as it is used; secrets are masked
        by their type."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Group):
                values |= {f"{name}.{inner}": entry for inner, entry in value.in_force().items()}
            elif name != "overrides":
                values[name] = value
        with suppress(SettingsError):  # without a home directory there is no default
            values["replica.state_dir"] = self.state_dir
        for job, override in self.overrides.items():
            changed = override.model_dump(exclude_unset=True)
            values |= {f"overrides.{job}.{inner}": entry for inner, entry in changed.items()}
        return values
