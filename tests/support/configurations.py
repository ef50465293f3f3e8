"""A configuration to try things with, and what others may write over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import AmbiguousWrite, Etcd, EtcdUnavailable, TxnResult
from leaderjob.recipes import ConfigStore

FOREIGN = [
    b"\xff not JSON",
    b"[]",
    b'{"v": 1, "number": 1}',
    b'{"v":1,"number":7,"by":"x","at":"2030-01-01T00:00:00Z","values":{"lowest":99}}',
]


class Pool(BaseModel):
    """Ignores unknown names, as pydantic does where nothing is said."""

    host: str = "localhost"
    size: int = Field(default=4, gt=0)


class App(BaseModel):
    model_config = ConfigDict(extra="forbid")

    lowest: int = 0
    highest: int = 10
    note: str | None = "none"
    pools: dict[str, Pool] = {}

    @model_validator(mode="after")
    def _ordered(self) -> "App":
        if self.lowest > self.highest:
            raise ValueError(f"lowest {self.lowest} is above highest {self.highest}")
        return self


@asynccontextmanager
async def opened(etcd: EmbeddedEtcd, namespace: str, **options: Any) -> AsyncIterator[ConfigStore[App]]:
    async with Etcd([etcd.endpoint]) as client:
        yield ConfigStore(client, App, "app", namespace=namespace, **options)


def root(namespace: str) -> str:
    return f"/leaderjob/{namespace}/config/app/"


class Mute(Etcd):
    """Does what it is asked, or does not, and says that there was no answer."""

    plan: list[str]
    namespace: str
    keep = 50

    async def txn(self, *args: Any, **kwargs: Any) -> TxnResult:
        step = self.plan.pop(0) if self.plan else "answer"
        if step == "unavailable":
            raise EtcdUnavailable(["nowhere"], "made up")
        if step not in ("lost", "beaten"):
            result = await super().txn(*args, **kwargs)
        if step in ("overtaken", "beaten"):
            await self._change_it_too()
        if step in ("done", "lost", "overtaken", "beaten"):
            raise AmbiguousWrite("nowhere", "made up")
        return result

    async def _change_it_too(self) -> None:
        async with Etcd(self.connection.endpoints) as client:
            store = ConfigStore(client, App, "app", namespace=self.namespace, keep=self.keep)
            await store.set("note", "theirs")
