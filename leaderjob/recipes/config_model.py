"""Whether values fit a pydantic model, told in one sentence."""

import copy
import difflib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from leaderjob.errors import SettingsError
from leaderjob.recipes.config_outline import Outline
from leaderjob.recipes.config_path import MASK, Path, format_path

ModelT = TypeVar("ModelT", bound=BaseModel)

_SECRETS = (Secret, SecretStr, SecretBytes)
_SCHEMA = re.compile(r"\w\[.*\]$", re.DOTALL)
_NOT_KNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class InvalidConfig(SettingsError):
    """A change would make a configuration that its model refuses. Nothing was changed."""

    def __init__(self, store: str, why: str) -> None:
        super().__init__(f"configuration {store}: {why}; nothing was changed")


class Schema(Generic[ModelT]):
    """A model as the rule for a configuration: of JSON objects that hold only what is set.

    :raises SettingsError: the model demands something, so that there are no defaults to begin with.
    """

    def __init__(self, model: type[ModelT]) -> None:
        self._model = model
        try:
            self.validate({})
        except ValidationError as error:
            raise SettingsError(
                f"the model {model.__name__} of a configuration is not valid where nothing is set: {sentence(error)}; "
                "give each of its fields a default"
            ) from error
        self._outline = Outline(model)

    def validate(self, values: Mapping[str, Any]) -> ModelT:
        """:raises ValidationError: they do not fit."""
        # As JSON and not as Python values: that is what everybody else will read.
        return self._model.model_validate_json(to_json(values))

    def masked(self, values: dict[str, Any]) -> dict[str, Any]:
        """A copy to be shown, with each secret masked."""
        return self._outline.masked(values)

    def check_change(self, store: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> ModelT:
        """The model of ``after``. :raises InvalidConfig: it does not fit, or has a name that the model does not know
        and ``before`` did not have: a model that ignores such names would hide a mistake."""
        try:
            model = self.validate(after)
        except ValidationError as error:
            extras = (path for problem in error.errors() if (path := _extra(problem, after)))
            # What one member of a union does not know, another one may.
            unknown = next(
                (path for path in extras if path[-1] not in self._outline.names_beside(path)), None
            )
            raise InvalidConfig(store, self._not_known(unknown) if unknown else sentence(error)) from error
        former = set(self._extras(before))
        for path in self._extras(after):
            if path not in former and self._is_ignored(path, after, model):
                raise InvalidConfig(store, self._not_known(path))
        return model

    def _extras(self, values: Mapping[str, Any]) -> list[Path]:
        """Where there are names that the model would refuse if it forbade all that it does not know. Of a union's
        members each has its say: the names on which most of them agree, in each object."""
        try:
            self._model.model_validate_json(to_json(values), extra="forbid")
        except ValidationError as error:
            found = Counter(path for problem in error.errors() if (path := _extra(problem, values)))
        else:
            return []
        most: dict[Path, int] = {}
        for path, count in found.items():
            most[path[:-1]] = max(count, most.get(path[:-1], 0))
        return [path for path, count in found.items() if count == most[path[:-1]]]

    def _is_ignored(self, path: Path, values: Mapping[str, Any], model: ModelT) -> bool:
        """Whether the model is the same without the name at the end of ``path``: one that takes any name keeps it."""
        try:
            other = self.validate(_removed(values, path))
            again = self.validate(values)
        except ValidationError:
            return False  # it is needed
        # What differs in any case is a default that is made anew each time.
        return not set(_changes(model, other)) - set(_changes(model, again))

    def _not_known(self, path: Path) -> str:
        names = self._outline.names_beside(path)
        if path[-1] in names:
            return f"{format_path(path)} has no effect beside the other values there"
        return f"{format_path(path)} is not known: {_nearest(path[-1], names)}"


def refuse_masks(store: str, before: Any, after: Any) -> None:
    """:raises InvalidConfig: a value in ``after`` is the mask of a secret, and was not in ``before``."""
    if isinstance(after, Mapping):
        for name, value in after.items():
            refuse_masks(store, before.get(name) if isinstance(before, Mapping) else None, value)
    elif isinstance(after, list):
        former = before if isinstance(before, list) and len(before) == len(after) else [None] * len(after)
        for old, new in zip(former, after, strict=True):
            refuse_masks(store, old, new)
    elif after == MASK and before != MASK:
        raise InvalidConfig(
            store, f"{MASK} is what stands for a secret where it is shown: give the secret itself"
        )


def plain(store: str, value: Any) -> Any:
    """``value`` as JSON has it, with its secrets as they are.

    :raises InvalidConfig: it is none, or not a finite number.
    """
    try:
        return from_json(to_json(_revealed(value), inf_nan_mode="constants"), allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidConfig(
            store, f"a value of type {type(value).__name__} cannot be stored as JSON ({error})"
        ) from error


def _revealed(value: Any) -> Any:
    """``value`` with secrets in place of the objects that hide them."""
    if isinstance(value, _SECRETS):
        return _revealed(value.get_secret_value())
    if isinstance(value, Mapping):
        return {name: _revealed(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_revealed(inner) for inner in value]
    if isinstance(value, BaseModel) or (is_dataclass(value) and not isinstance(value, type)):
        # In Python's form secrets are still objects, in JSON's they are masked, and all else is as it has to be.
        adapter: TypeAdapter[Any] = TypeAdapter(type(value))
        held = adapter.dump_python(value, mode="python", by_alias=True)
        return _merged(adapter.dump_python(value, mode="json", by_alias=True), held)
    return value


def _merged(shown: Any, held: Any) -> Any:
    """``shown``, with the secrets that are at the same places in ``held``."""
    if isinstance(held, _SECRETS):
        return _revealed(held)
    if isinstance(held, Mapping) and isinstance(shown, Mapping) and len(held) == len(shown):
        pairs = zip(shown.items(), held.values(), strict=True)
        return {name: _merged(inner, old) for (name, inner), old in pairs}
    if isinstance(held, (list, tuple)) and isinstance(shown, list) and len(held) == len(shown):
        return [_merged(inner, old) for inner, old in zip(shown, held, strict=True)]
    if isinstance(held, (set, frozenset)) and any(isinstance(each, _SECRETS) for each in held):
        return [_revealed(each) for each in held]
    return shown


def sentence(error: ValidationError) -> str:
    """The first reason of pydantic's, and how many more there are."""
    first, *more = error.errors(include_url=False, include_context=False)
    # A union's members that are no models are in the location with their whole schema, which helps nobody.
    where = format_path([str(part) for part in first["loc"] if str(part) and not _SCHEMA.search(str(part))])
    reason = first["msg"].removeprefix("Value error, ")
    several = f" (and {len(more)} more)" if more else ""
    return f"{where + ': ' if where else ''}{reason}{several}"


def _extra(problem: Any, values: Mapping[str, Any]) -> Path | None:
    """Where the name is that ``problem`` is about, if it is that the model does not know it."""
    return _place(problem["loc"], values) if problem["type"] in _NOT_KNOWN else None


def _place(location: Sequence[int | str], values: Any) -> Path | None:
    """The path in ``values`` to what an error of pydantic is about, which also names the members of unions."""
    part, *rest = location
    inner = None
    if isinstance(values, Mapping) and part in values:
        inner = values[str(part)]
    elif isinstance(values, list) and isinstance(part, int) and part < len(values):
        inner = values[part]
    elif not rest:
        return None
    else:
        return _place(rest, values)
    if not rest:
        return (str(part),)
    found = _place(rest, inner)
    return (str(part), *found) if found is not None else _place(rest, values)


def _removed(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    changed: Any = copy.deepcopy(dict(values))
    inner = changed
    for name in path[:-1]:
        inner = inner[int(name)] if isinstance(inner, list) else inner[name]
    del inner[path[-1]]
    return dict(changed)


def _changes(one: Any, other: Any, above: Path = ()) -> Iterator[Path]:
    """Where two objects differ, down to their attributes and items."""
    before, after = _parts(one), _parts(other)
    if type(one) is not type(other) or before is None or after is None:
        if type(one) is not type(other) or one != other:
            yield above
        return
    for name in before.keys() | after.keys():
        if name in before and name in after:
            yield from _changes(before[name], after[name], (*above, name))
        else:
            yield (*above, name)


def _parts(value: Any) -> dict[str, Any] | None:
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.model_extra or {})}
    if is_dataclass(value):
        return (
            dict(vars(value))
            if hasattr(value, "__dict__")
            else {f.name: getattr(value, f.name) for f in fields(value)}
        )
    if isinstance(value, Mapping):
        return {str(name): inner for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return {str(at): inner for at, inner in enumerate(value)}
    return None


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known) or 'nothing'}"
