"""Which names a configuration takes: those that its model takes, however that is written, and no others."""

import dataclasses
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import pydantic.dataclasses
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict

from leaderjob.recipes.config_model import InvalidConfig, Schema
from leaderjob.recipes.config_path import InvalidPath, find, parse_path, with_value, without


class Pool(BaseModel):
    host: str = "localhost"
    size: int = 4
    created: str = Field(default_factory=lambda: uuid4().hex)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    bark: str = "woof"
    mate: "Dog | None" = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int = 0
    pool: Pool = Pool()


class Typed(TypedDict, total=False):
    width: int
    pool: Pool


@dataclasses.dataclass
class Plain:
    x: int = 0
    pool: Pool = dataclasses.field(default_factory=Pool)


@pydantic.dataclasses.dataclass(config=ConfigDict(extra="allow"))
class OpenDataclass:
    x: int = 0


class ByAlias(BaseModel):
    one: int = Field(default=0, alias="uno")
    two: int = Field(default=0, validation_alias=AliasChoices("due", "deux"))
    three: int = Field(default=0, validation_alias=AliasChoices(AliasPath("deep", "three"), "drei"))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    one: int = Field(default=0, alias="uno")


class Renamed(BaseModel):
    """Takes an old name, too."""

    new: int = 0

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, given: Any) -> Any:
        if isinstance(given, dict) and "old" in given:
            given = dict(given)
            given["new"] = given.pop("old")
        return given


class App(BaseModel):
    maybe: Pool | None = None
    either: Cat | Dog = Cat()
    told: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat()
    tagged: Annotated[
        Annotated[Cat, Tag("c")] | Annotated[Dog, Tag("d")],
        Discriminator(lambda value: "d" if "bark" in value else "c"),
    ] = Cat()
    pair: tuple[Pool, Cat] = (Pool(), Cat())
    many: list[Dog] = []
    by_name: dict[str, list[Pool]] = {}
    anything: dict[str, Any] = {}
    typed: Typed = {}
    plain: Plain = dataclasses.field(default_factory=Plain)  # type: ignore[assignment]
    scalar_or_pool: int | Pool = 0


class Root(RootModel[dict[str, Pool]]):
    root: dict[str, Pool] = {}


class Top(BaseModel):
    open: Open = Open()
    open_class: OpenDataclass = OpenDataclass()
    aliases: ByAlias = ByAlias()
    names: ByName = ByName()
    renamed: Renamed = Renamed()


App.model_rebuild()

VALUES: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (App, {"maybe": {"host": "a", "size": 5}}),
    (
        App,
        {
            "either": {"lives": 3},
            "told": {"kind": "dog", "bark": "wow", "mate": {"kind": "dog", "bark": "x"}},
        },
    ),
    (App, {"either": {"kind": "dog", "bark": "x"}, "told": {"kind": "cat", "lives": 9}}),
    (App, {"tagged": {"bark": "x"}, "pair": [{"host": "a"}, {"lives": 2}]}),
    (
        App,
        {"many": [{"bark": "x"}, {"mate": {"bark": "y"}}], "by_name": {"a b": [{"size": 1}, {"host": "h"}]}},
    ),
    (App, {"anything": {"list": [1, {"deep": [{"x": 1}]}], "null": None, "x": {"y": {}}}}),
    (App, {"typed": {"width": 1, "pool": {"size": 2}}, "scalar_or_pool": {"size": 2}}),
    (App, {"scalar_or_pool": 7}),
    (Root, {"a": {"host": "h"}, "b.c": {"size": 1}}),
    (Top, {"open": {"known": 1, "other": {"x": 1}, "pool": {"size": 1}}, "open_class": {"x": 1, "more": 2}}),
    (Top, {"aliases": {"uno": 1, "deux": 2, "drei": 3}, "names": {"one": 1}, "renamed": {"old": 3}}),
    (Top, {"aliases": {"due": 2, "deep": {"three": 3}}, "names": {"uno": 1}, "renamed": {"new": 3}}),
]
OPEN = [("anything",), ("by_name",), ("open",), ("open_class",), ("open", "other"), ("aliases", "deep")]


def places(values: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to everything in ``values``."""
    if above:
        yield above
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for name, inner in items:
        yield from places(inner, (*above, str(name)))


def takes_any_name(model: type[BaseModel], holder: tuple[str, ...]) -> bool:
    return holder in OPEN or holder[:1] == ("anything",) or (model is Root and not holder)


CASES = [(model, values, path) for model, values in VALUES for path in places(values)]


@pytest.mark.parametrize(("model", "values", "path"), CASES)
def test_every_path_of_a_valid_configuration_can_be_set(
    model: type[BaseModel], values: dict[str, Any], path: tuple[str, ...]
) -> None:
    schema = Schema(model)
    value = find(values, path)
    assert with_value(values, path, value) == values
    schema.check_change("c", values, with_value(values, path, value))
    alone = with_value({}, path, value)
    try:
        schema.validate(alone)
    except ValidationError:
        return  # it needs what is beside it
    schema.check_change("c", {}, alone)


@pytest.mark.parametrize(("model", "values", "path"), CASES)
def test_misspelt_name_is_refused_unless_any_name_will_do(
    model: type[BaseModel], values: dict[str, Any], path: tuple[str, ...]
) -> None:
    if isinstance(find(values, path[:-1]), list):
        return
    schema = Schema(model)
    misspelt = (*path[:-1], f"{path[-1]}z")
    after = with_value(values, misspelt, find(values, path))
    if takes_any_name(model, path[:-1]):
        schema.check_change("c", values, after)
    else:
        with pytest.raises(InvalidConfig, match=f"{path[-1]}z is not known"):
            schema.check_change("c", values, after)
    # What was there before, written by other means or by another release, keeps nobody from other changes.
    schema.check_change("c", after, after)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pair": [{"hots": "a"}, {}]}, "pair.0.hots is not known: did you mean 'host'?"),
        ({"told": {"kind": "dog", "lives": 3}}, "told.lives has no effect"),
        ({"either": {"lives": 9, "bark": "woof"}}, "has no effect"),
        ({"either": {"lives": 9, "zzz": 1}}, "either.zzz is not known: there is bark, kind, lives, mate"),
        ({"by_name": {"a": [{"hots": "a"}]}}, "by_name.a.0.hots is not known: did you mean 'host'?"),
        ({"plain": {"y": 1}}, "plain.y is not known: there is pool, x"),
        ({"typed": {"widht": 1}}, "typed.widht is not known: did you mean 'width'?"),
        ({"pair": [{"size": "x"}, {}]}, "pair.0.size: Input should be a valid integer"),
    ],
)
def test_refusal_names_the_place_and_what_was_meant(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Schema(App).check_change("c", {}, change)
    assert said in str(caught.value)


def test_names_of_several_members_of_a_union_do_not_hide_each_other() -> None:
    schema = Schema(App)
    schema.check_change("c", {}, {"either": {"lives": 9}})
    schema.check_change("c", {}, {"either": {"bark": "woof"}})


def test_value_on_the_way_is_not_lost() -> None:
    values = {"a": {"list": [{"x": 1}], "text": "t", "null": None}}
    assert with_value(values, ("a", "list", "0", "x"), 2)["a"]["list"] == [{"x": 2}]
    assert with_value(values, ("a", "null", "x"), 2)["a"]["null"] == {"x": 2}
    for path in ("a.list.1", "a.list.x", "a.list.01", "a.list.-1", "a.text.x", "a.list.0.x.y"):
        with pytest.raises(InvalidPath, match="is set to"):
            with_value(values, parse_path(path), 2)
    assert without(values, ("a", "list", "0", "x"))["a"]["list"] == [{}]
    with pytest.raises(InvalidPath, match="an element of a list"):
        without(values, ("a", "list", "0"))
    with pytest.raises(KeyError):
        without(values, ("a", "list", "1"))


class Dated(BaseModel):
    """The defaults of which are never twice the same."""

    at: datetime = Field(default_factory=datetime.now)
    token: SecretStr = Field(default_factory=lambda: SecretStr(uuid4().hex))
    size: int = 1


def test_defaults_that_differ_each_time_hide_no_mistake() -> None:
    with pytest.raises(InvalidConfig, match="sise is not known: did you mean 'size'"):
        Schema(Dated).check_change("c", {}, {"sise": 2})


class Loose(BaseModel):
    anything: dict[str, Any] = {}
    secret: SecretStr | int | None = None


@pytest.mark.parametrize("name", ["9" * 1000, "²", "٣", "-1"])
def test_a_name_that_looks_like_a_number_is_a_name(name: str) -> None:
    change = with_value({}, parse_path(["anything", name]), 1)
    Schema(Loose).check_change("c", {}, change)
    assert Schema(Loose).masked(change) == change


def test_stored_name_that_is_longer_than_any_number_can_be_shown() -> None:
    assert Schema(Loose).masked({"anything": {"9" * 5000: 1}})


@pytest.mark.parametrize(
    "path", ["x" * 1001, "anything." + "9" * 5000, '"' + "x" * 100_000, "x." * 50_000 + "x"]
)
def test_a_path_that_is_too_long_is_refused_in_a_short_message(path: str) -> None:
    with pytest.raises(InvalidPath) as caught:
        parse_path(path)
    assert len(str(caught.value)) < 500


def test_a_refusal_does_not_print_the_schema_of_a_secret() -> None:
    with pytest.raises(InvalidConfig) as caught:
        Schema(Loose).check_change("c", {}, {"secret": ["s"]})
    assert "secret: Input should be a valid string" in str(caught.value)


def test_a_secret_that_is_null_is_shown_as_null() -> None:
    assert Schema(Loose).masked({"secret": None}) == {"secret": None}
