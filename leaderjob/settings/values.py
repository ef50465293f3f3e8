"""The kinds of values that settings have, and how text becomes one of them.

No value of a secret is ever part of a message.
"""

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr

from leaderjob.durations import parse_duration_s
from leaderjob.endpoints import holds_user, parse_endpoint, parse_endpoints
from leaderjob.errors import InvalidDuration, SettingsError
from leaderjob.json_text import PARAMS_LIMIT_BYTES, InvalidJson, check, decode
from leaderjob.names import valid_name

_TEXT_LIMIT_BYTES = 1024 * 1024
_IPV6 = re.compile(r"\[[0-9a-f:.]*:[0-9a-f:.]*(%\w+)?\]", re.IGNORECASE)
"""An address in brackets, which is not the beginning of a JSON list."""


def _seconds(value: Any) -> float:
    try:
        return parse_duration_s(value)
    except InvalidDuration as error:
        raise ValueError(str(error)) from error


def _list(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("[") and not _IPV6.match(text):
        return _json(text)
    return [part.strip() for part in text.split(",") if part.strip()]


def _object(value: Any) -> Any:
    return _json(value) if isinstance(value, str) else value


def _json(text: str) -> Any:
    try:
        return decode(text, _TEXT_LIMIT_BYTES)
    except InvalidJson as error:
        raise ValueError(str(error)) from error


def _params(params: dict[str, Any]) -> dict[str, Any]:
    check(params, PARAMS_LIMIT_BYTES)
    return params


def _one_or_several(value: Any) -> Any:
    if isinstance(value, str):
        return [value] if value else []
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _name(value: str) -> str:
    if not valid_name(value):
        raise ValueError(
            f"{value!r} is not a name: lower-case letters, digits, '.', '_' and '-', at most 120"
        )
    return value


def _endpoint_list(value: Any) -> Any:
    if isinstance(value, str) and holds_user(value):
        # Split at its commas, a password might be cut in two, and the first half would be quoted.
        _endpoint(value)
    return _list(value)


def _endpoint(value: str) -> str:
    try:
        return str(parse_endpoint(value))
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _endpoints(values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(endpoint) for endpoint in parse_endpoints(values))
    except SettingsError as error:
        raise ValueError(str(error)) from None


def _expanded(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"{str(path)!r} is not a path: it holds a NUL character")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def _existing(path: Path) -> Path:
    try:
        # A pipe or a device is as good as a file: shells and supervisors hand over secrets so.
        if not path.stat() or path.is_dir():
            raise ValueError(f"{path} is a directory, and a file is needed")
    except FileNotFoundError:
        raise ValueError(f"the file {path} does not exist") from None
    except OSError as error:
        raise ValueError(f"the file {path} cannot be looked at: {error.strerror}") from error
    return path


Seconds = Annotated[float, BeforeValidator(_seconds)]
Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Name = Annotated[str, AfterValidator(_name)]
Endpoints = Annotated[
    tuple[Annotated[str, AfterValidator(_endpoint)], ...],
    BeforeValidator(_endpoint_list),
    AfterValidator(_endpoints),
]
Folder = Annotated[Path, AfterValidator(_expanded)]
ExistingFile = Annotated[Path, AfterValidator(_expanded), AfterValidator(_existing)]

JobParams = Annotated[dict[str, Any], AfterValidator(_params)]

FROM_JSON = BeforeValidator(_object)
ONE_OR_SEVERAL = BeforeValidator(_one_or_several)
ANY_CASE = BeforeValidator(_lower)


def check_not_empty(secret: SecretStr) -> SecretStr:
    """``secret`` itself. :raises ValueError: it is empty."""
    if not secret.get_secret_value().strip():
        raise ValueError("it is empty")
    return secret


def check_dsn(dsn: SecretStr) -> SecretStr:
    """``dsn`` itself. :raises ValueError: it does not look as Sentry's do."""
    try:
        parts = urlsplit(dsn.get_secret_value())
        fits = parts.scheme in ("http", "https") and parts.username and parts.hostname
        fits = fits and parts.path.rpartition("/")[2]
    except ValueError:  # which quotes what it could not parse
        fits = False
    if not fits:
        raise ValueError(
            "it is not a DSN, https://KEY@HOST/PROJECT: copy it from the project's settings in Sentry"
        )
    return dsn


def read_secret(setting: str, path: Path) -> SecretStr:
    """What the file at ``path`` holds, without its final newline.

    :param setting: the setting that names the file, for messages.
    :raises SettingsError: it cannot be read, or is empty.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SettingsError(
            f"setting {setting!r}: the file {path} cannot be read: {error.strerror}; "
            "the user that runs leaderjob must be allowed to read it"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(
            f"setting {setting!r}: the file {path} is not text in UTF-8: it must hold the secret and nothing else"
        ) from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret.strip():
        raise SettingsError(f"setting {setting!r}: the file {path} is empty: write the secret into it")
    return SecretStr(secret)
