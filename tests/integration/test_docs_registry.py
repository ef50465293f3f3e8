"""The examples of the pages on the registry and on balancing run as they are."""

import ast
import inspect
import re
import types
from pathlib import Path

import grpc

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Registry
from tests.support.greeters import Greeter
from tests.support.streams import run_with_streams

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"


async def run_examples(page: str, count: int, names: dict[str, object]) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) == count
    for example in examples:
        code = compile(example, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        ran = types.FunctionType(code, names)()
        if inspect.isawaitable(ran):
            await ran


def test_every_example_of_the_page_on_the_registry_runs(own_etcd: EmbeddedEtcd) -> None:
    printed: list[object] = []

    async def main() -> None:
        async with Etcd([own_etcd.endpoint]) as client:
            await run_examples("registry.md", 2, {"etcd": client, "print": printed.append})

    run_with_streams(main())
    assert "10.0.0.5:50051" in str(printed)


def test_every_example_of_the_page_on_balancing_runs(own_etcd: EmbeddedEtcd) -> None:
    printed: list[object] = []

    class Named(Greeter):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            known = handler_call_details.method == "/Greeter/SayHello"
            return grpc.unary_unary_rpc_method_handler(self._hello) if known else None

    async def main() -> None:
        async with (
            Etcd([own_etcd.endpoint]) as client,
            Named("Hello, Ada") as server,
            Registry(client).register("greeter", server.address),
        ):
            await run_examples("balancing.md", 1, {"etcd": client, "print": printed.append})

    run_with_streams(main())
    assert printed == [b"Hello, Ada"]
