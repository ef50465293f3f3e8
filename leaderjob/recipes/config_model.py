"""Whether values fit a pydantic model, told in one sentence."""

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json

from leaderjob.errors import SettingsError
from leaderjob.recipes.config_path import Path, format_path

ModelT = TypeVar("ModelT", bound=BaseModel)


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

    def validate(self, values: Mapping[str, Any]) -> ModelT:
        """:raises ValidationError: they do not fit."""
        # As JSON and not as Python values: that is what everybody else will read.
        return self._model.model_validate_json(to_json(values))

    def check_change(self, store: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> ModelT:
        """The model of ``after``. :raises InvalidConfig: it does not fit, or has a name that the model does not know
        and ``before`` did not have: a model that ignores such names would hide a mistake."""
        former = {path for path, _ in _unknown(self._model, before)}
        for path, known in _unknown(self._model, after):
            if path not in former:
                raise InvalidConfig(store, f"{format_path(path)} is not known: {_nearest(path[-1], known)}")
        try:
            return self.validate(after)
        except ValidationError as error:
            raise InvalidConfig(store, sentence(error)) from error


def plain(store: str, value: Any) -> Any:
    """``value`` as JSON has it. :raises InvalidConfig: it is none, or not a finite number."""
    try:
        return from_json(to_json(value, inf_nan_mode="constants"), allow_inf_nan=False)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidConfig(
            store, f"a value of type {type(value).__name__} cannot be stored as JSON ({error})"
        ) from error


def sentence(error: ValidationError) -> str:
    """The first reason of pydantic's, and how many more there are."""
    first, *more = error.errors(include_url=False, include_context=False)
    where = format_path([str(part) for part in first["loc"] if str(part)])
    reason = first["msg"].removeprefix("Value error, ")
    several = f" (and {len(more)} more)" if more else ""
    return f"{where + ': ' if where else ''}{reason}{several}"


def _unknown(annotation: Any, value: Any, above: Path = ()) -> Iterator[tuple[Path, list[str]]]:
    """Each name in ``value`` that a model does not know, and those which it does."""
    shape = _shape(annotation)
    if isinstance(shape, type) and issubclass(shape, BaseModel) and isinstance(value, Mapping):
        fields = {
            name: field for own, field in shape.model_fields.items() for name in _names(own, field, shape)
        }
        for name, inner in value.items():
            if name in fields:
                yield from _unknown(fields[name].annotation, inner, (*above, name))
            elif shape.model_config.get("extra") != "allow":
                yield (*above, name), sorted(fields)
        return
    arguments = typing.get_args(shape)
    if isinstance(value, Mapping) and len(arguments) == 2:
        for name, inner in value.items():
            yield from _unknown(arguments[1], inner, (*above, name))
    elif isinstance(value, list) and arguments:
        for index, inner in enumerate(value):
            yield from _unknown(arguments[0], inner, (*above, str(index)))


def _shape(annotation: Any) -> Any:
    """Without what does not matter here: aliases, annotations, and None beside one type. Of several types: nothing,
    and pydantic alone decides."""
    if isinstance(annotation, typing.TypeVar):
        return None
    if hasattr(annotation, "__value__"):
        return _shape(annotation.__value__)
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _shape(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        return _shape(members[0]) if len(members) == 1 else None
    return annotation


def _names(own: str, field: FieldInfo, model: type[BaseModel]) -> list[str]:
    """By which names a field is set."""
    alias = field.validation_alias
    if alias is None:
        return [own]
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    return [alias, *([own] if by_name else [])] if isinstance(alias, str) else [own]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known) or 'nothing'}"
