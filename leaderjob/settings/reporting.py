"""The groups ``log`` and ``sentry``: what a replica tells of itself."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from leaderjob.errors import SettingsError
from leaderjob.settings.group import Group
from leaderjob.settings.values import ANY_CASE, ExistingFile, check_dsn, read_secret


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


class LogSettings(Group):
    """The log, on stderr."""

    format: Annotated[Literal["auto", "text", "json"], ANY_CASE] = "auto"
    """`text` for people, `json` for collectors of logs; `auto` is `text` on a terminal and `json` elsewhere."""
    level: Annotated[Literal["debug", "info", "warning", "error"], ANY_CASE] = "info"
    """The least severe that is told: `debug`, `info`, `warning` or `error`."""


class SentrySettings(Group):
    """Reports to Sentry; without a DSN there are none."""

    dsn: Annotated[
        Annotated[SecretStr, AfterValidator(check_dsn)] | None, BeforeValidator(_none_if_empty)
    ] = Field(default=None, examples=["https://KEY@HOST/PROJECT"])
    """Where errors are reported; an empty one is none."""
    dsn_file: ExistingFile | None = Field(default=None, examples=["/run/secrets/sentry-dsn"])
    """A file that holds the DSN and nothing else, such as a mounted secret."""
    environment: str | None = Field(default=None, min_length=1, examples=["production"])
    """The environment that reports are filed under; by default Sentry's own default."""
    crons: bool = True
    """Keep a monitor in Sentry for each job with a schedule."""

    def read_dsn(self) -> SecretStr | None:
        """The DSN; None without one. Read from the file at each call: mounted secrets are renewed.

        :raises SettingsError: the file cannot be read, is empty, or holds something else.
        """
        if self.dsn_file is None:
            return self.dsn
        dsn = read_secret("sentry.dsn_file", self.dsn_file)
        try:
            return check_dsn(dsn)
        except ValueError as error:
            raise SettingsError(
                f"setting 'sentry.dsn_file': what {self.dsn_file} holds cannot be used: {error}"
            ) from None

    @model_validator(mode="after")
    def _one_dsn(self) -> Self:
        if self.dsn is not None and self.dsn_file is not None:
            raise ValueError("both dsn and dsn_file are set (each may come from another source)")
        return self
