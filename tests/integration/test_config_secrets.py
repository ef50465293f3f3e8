"""Secrets in a configuration: stored as they are, masked wherever they are shown."""

import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Secret, SecretBytes, SecretStr
from typing_extensions import TypedDict

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import ConfigStore, InvalidConfig
from leaderjob.recipes.config_path import MASK

PASSWORD = "Gr7-pass"


@dataclasses.dataclass
class Plain:
    secret: SecretStr = dataclasses.field(default_factory=lambda: SecretStr(""))


class Typed(TypedDict, total=False):
    secret: SecretStr


class WithPassword(BaseModel):
    kind: Literal["password"] = "password"
    user: str = "u"
    secret: SecretStr = SecretStr("")


class WithKey(BaseModel):
    kind: Literal["key"] = "key"
    secret: SecretBytes = SecretBytes(b"")


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    secret: SecretStr = SecretStr("")


class Access(BaseModel):
    name: str = "n"
    password: SecretStr = SecretStr("default")
    maybe: SecretStr | None = None
    raw: SecretBytes = SecretBytes(b"")
    pin: Secret[int] = Secret[int](0)
    several: list[SecretStr] = []
    by_host: dict[str, SecretStr] = {}
    pair: tuple[str, SecretStr] = ("", SecretStr(""))
    either: SecretStr | int = 0
    login: Annotated[WithPassword | WithKey, Field(discriminator="kind")] = WithPassword()
    nested: dict[str, list[WithPassword]] = {}
    plain: Plain = Plain()
    typed: Typed = {}
    parts: Secret[dict[str, str]] = Secret[dict[str, str]]({})
    renamed: SecretStr = Field(default=SecretStr(""), validation_alias=AliasChoices("neu", "alt"))
    open: Open = Open()


CHANGES: list[tuple[str, Any]] = [
    ("password", PASSWORD),
    ("password", SecretStr(PASSWORD)),
    ("maybe", SecretStr(PASSWORD)),
    ("raw", SecretBytes(PASSWORD.encode())),
    ("several", [SecretStr(PASSWORD), PASSWORD]),
    ("by_host", {"h": SecretStr(PASSWORD)}),
    ("by_host.h", PASSWORD),
    ("pair", ("x", SecretStr(PASSWORD))),
    ("either", SecretStr(PASSWORD)),
    ("login", WithPassword(secret=SecretStr(PASSWORD))),
    ("login", WithKey(secret=SecretBytes(PASSWORD.encode()))),
    ("login", {"kind": "key", "secret": PASSWORD}),
    ("nested", {"a": [WithPassword(secret=SecretStr(PASSWORD))]}),
    ("plain", Plain(SecretStr(PASSWORD))),
    ("typed", {"secret": SecretStr(PASSWORD)}),
    ("parts", {"x": PASSWORD}),
    ("parts", Secret[dict[str, str]]({"x": PASSWORD})),
    ("neu", PASSWORD),
    ("alt", PASSWORD),
    ("open", {"secret": PASSWORD, "other": "shown"}),
]


@asynccontextmanager
async def opened(etcd: EmbeddedEtcd, namespace: str) -> AsyncIterator[tuple[Etcd, ConfigStore[Access]]]:
    async with Etcd([etcd.endpoint]) as client:
        yield client, ConfigStore(client, Access, "access", namespace=namespace)


async def stored(client: Etcd, namespace: str) -> str:
    """All that is in etcd."""
    return "".join(kv.value.decode() for kv in (await client.range(f"/leaderjob/{namespace}/")).kvs)


@pytest.mark.parametrize(("path", "value"), CHANGES)
async def test_secret_is_stored_as_it_is_and_shown_masked(
    path: str, value: Any, etcd: EmbeddedEtcd, namespace: str
) -> None:
    async with opened(etcd, namespace) as (client, store):
        changed = await store.set(path, value)
        in_etcd = await stored(client, namespace)
        assert PASSWORD in in_etcd
        assert MASK not in in_etcd
        shown = [
            await store.values(),
            changed,
            await store.history(),
            await store.diff(),
            await store.diff(0),
        ]
        async with aclosing(store.watch()) as configurations:
            seen = await anext(configurations)
        shown += [seen, seen.model_dump(mode="json"), await store.get()]
        assert PASSWORD not in str(shown)
        assert MASK in str(await store.values())
        assert MASK in str(await store.diff())


async def test_secret_that_was_set_is_the_one_in_force(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as (_, store):
        await store.set("password", SecretStr(PASSWORD))
        await store.set("pin", 1234)
        await store.set("login", WithKey(secret=SecretBytes(b"k")))
        found = await store.get()
        assert found.password.get_secret_value() == PASSWORD
        assert found.pin.get_secret_value() == 1234
        assert isinstance(found.login, WithKey)
        assert found.login.secret.get_secret_value() == b"k"
        assert (await store.values())["pin"] == MASK
        assert (await store.values())["login"] == {"kind": "key", "secret": MASK}
        await store.set("password", "another")
        await store.rollback(1)
        assert (await store.get()).password.get_secret_value() == PASSWORD
        changed = await store.diff(0, 1)
        assert [(each.path, each.before, each.after) for each in changed] == [("password", None, MASK)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("password", MASK),
        ("password", SecretStr(MASK)),
        ("name", MASK),
        ("several", [MASK]),
        ("nested", {"a": [{"secret": MASK}]}),
        ("open", {"other": {"x": MASK}}),
    ],
)
async def test_mask_is_not_stored(path: str, value: Any, etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as (client, store):
        await store.set("password", PASSWORD)
        with pytest.raises(InvalidConfig, match="give the secret itself"):
            await store.set(path, value)
        assert (await store.get()).password.get_secret_value() == PASSWORD
        assert MASK not in await stored(client, namespace)


async def test_values_that_were_shown_cannot_be_written_back(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as (_, store):
        await store.update({"name": "a", "by_host.h": PASSWORD})
        shown = await store.values()
        with pytest.raises(InvalidConfig, match="give the secret itself"):
            await store.update(shown)
        assert (await store.get()).by_host["h"].get_secret_value() == PASSWORD


async def test_error_shows_no_secret(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as (_, store):
        for path, value in [
            ("pin", PASSWORD),
            ("raw", [PASSWORD]),
            ("pasword", PASSWORD),
            ("password", {"x": PASSWORD}),
        ]:
            with pytest.raises(InvalidConfig) as caught:
                await store.set(path, value)
            assert PASSWORD not in str(caught.value)


async def test_document_that_is_no_longer_valid_shows_no_secret(etcd: EmbeddedEtcd, namespace: str) -> None:
    async with opened(etcd, namespace) as (client, store):
        await store.set("password", PASSWORD)
        key = f"/leaderjob/{namespace}/config/access/current"
        found = await client.get(key)
        assert found is not None
        document = json.loads(found.value)
        document["values"] = {"pin": PASSWORD, "pasword": PASSWORD, "password": [PASSWORD]}
        await client.put(key, json.dumps(document).encode())
        assert PASSWORD not in str(await store.values())
        assert PASSWORD not in str(await store.diff(0))
