"""A model's own schema, walked along the values of a configuration: which names there are, and what is secret."""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from leaderjob.recipes.config_path import MASK, is_index

_ALIASES = "x-aliases"
_SECRET = "writeOnly"
_ANY_OF = ("anyOf", "oneOf", "allOf")

Nodes = tuple[Mapping[str, Any], ...]


class Outline:
    """The JSON schema of a model, with what a JSON schema leaves out: further aliases, and which values are secret.

    It may say too much, of a union's members for instance: use it to mask and to hint, not to refuse.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about defaults, which do not matter here
            self._schema = model.model_json_schema(mode="validation", schema_generator=_Generator)

    def masked(self, values: dict[str, Any]) -> dict[str, Any]:
        """A copy with each secret masked."""
        shown: dict[str, Any] = self._masked(self._resolved([self._schema]), values)
        return shown

    def names_beside(self, path: Sequence[str]) -> list[str]:
        """The names that a value may have where the last one of ``path`` is."""
        nodes = self._resolved([self._schema])
        for name in path[:-1]:
            nodes = self._inner(nodes, name)
        return sorted({known for node in nodes for known in node.get("properties", ())})

    def _masked(self, nodes: Nodes, value: Any) -> Any:
        if any(node.get(_SECRET) for node in nodes):
            return value if value is None else MASK
        if isinstance(value, dict):
            return {name: self._masked(self._inner(nodes, name), inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(self._inner(nodes, str(at)), inner) for at, inner in enumerate(value)]
        return value

    def _inner(self, nodes: Nodes, name: str) -> Nodes:
        return self._resolved([found for node in nodes for found in _below(node, name)])

    def _resolved(self, nodes: Sequence[Any]) -> Nodes:
        """``nodes``, with references followed, and the members of unions one by one."""
        found: list[Mapping[str, Any]] = []
        seen: set[int] = set()
        left = list(nodes)
        while left:
            node = left.pop()
            if not isinstance(node, Mapping) or id(node) in seen:
                continue
            seen.add(id(node))
            found.append(node)
            if "$ref" in node:
                left.append(self._schema["$defs"][node["$ref"].rpartition("/")[2]])
            for key in _ANY_OF:
                left.extend(node.get(key, ()))
        return tuple(found)


def _below(node: Mapping[str, Any], name: str) -> Iterator[Any]:
    """The schemas of what is called ``name`` (or has this index) in a value that ``node`` describes."""
    properties = node.get("properties", {})
    known = node.get(_ALIASES, {}).get(name, name)
    others = node.get("additionalProperties")
    patterns = [schema for text, schema in node.get("patternProperties", {}).items() if re.search(text, name)]
    if known in properties:
        yield properties[known]
    elif patterns:
        yield from patterns
    elif others:
        yield others
    else:
        # A name that the model ignores, which may be a misspelt one: it is as secret as those beside it.
        yield from properties.values()
    items = node.get("prefixItems", ())
    if is_index(name, len(items)):
        yield items[int(name)]
    else:
        yield node.get("items")


class _Generator(GenerateJsonSchema):
    """Anything goes where a type has no JSON schema; and what is secret is marked, however it is declared."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def model_fields_schema(self, schema: core_schema.ModelFieldsSchema) -> JsonSchemaValue:
        return _with_aliases(super().model_fields_schema(schema), schema["fields"].items())

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _with_aliases(super().typed_dict_schema(schema), schema["fields"].items())

    def dataclass_args_schema(self, schema: core_schema.DataclassArgsSchema) -> JsonSchemaValue:
        fields = [(field["name"], field) for field in schema["fields"]]
        return _with_aliases(super().dataclass_args_schema(schema), fields)

    def json_or_python_schema(self, schema: core_schema.JsonOrPythonSchema) -> JsonSchemaValue:
        # SecretStr and SecretBytes are marked by pydantic itself, Secret[T] is not.
        found = super().json_or_python_schema(schema)
        serializer = schema.get("serialization", {}).get("function")
        return found | {_SECRET: True} if "secret" in getattr(serializer, "__name__", "") else found


def _with_aliases(found: JsonSchemaValue, fields: Any) -> JsonSchemaValue:
    """``found``, and for each further name of a field the one that it has there."""
    aliases: dict[str, str] = {}
    for own, field in fields:
        names = [own, *_names(field.get("validation_alias"))]
        shown = next((name for name in reversed(names) if name in found.get("properties", {})), own)
        aliases |= {name: shown for name in names if name != shown}
    return found | {_ALIASES: aliases} if aliases else found


def _names(alias: Any) -> list[str]:
    """The names at which a field is looked for: an alias is a name, a path, or a list of paths."""
    if isinstance(alias, str):
        return [alias]
    paths = [alias] if alias and not isinstance(alias[0], list) else alias or []
    return [path[0] for path in paths if isinstance(path[0], str)]
