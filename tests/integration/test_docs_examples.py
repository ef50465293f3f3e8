"""The examples of the pages on the client and on the recipes do what they say."""

import asyncio
import re
import sys
import textwrap
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Barrier, Progress, Registry, Session, Topic
from tests.support.candidates import TIMING
from tests.support.commands import Lines
from tests.support.examples import DOCS, examples_of, run_examples
from tests.support.greeters import Greeter
from tests.support.streams import run_with_streams

RECIPES = DOCS / "recipes"


@pytest.mark.parametrize(
    ("page", "client"),
    [(DOCS / "client.md", "client"), (RECIPES / "config.md", "etcd")],
    ids=["client", "config"],
)
async def test_the_examples_of_a_page_that_opens_a_client_of_its_own_run(
    own_etcd: EmbeddedEtcd, page: Path, client: str
) -> None:
    names: dict[str, object] = {}
    await run_examples(page, own_etcd.endpoint, names)
    opened = names[client]
    assert isinstance(opened, Etcd)
    await opened.close()


@pytest.mark.parametrize(
    ("page", "says"),
    [("lock", r"token \d+\n"), ("election", r"token \d+\n"), ("queue", r"^b'to alice' 1\n$")],
    ids=["lock", "election", "queue"],
)
async def test_the_example_of_a_page_says_what_stands_there(
    own_etcd: EmbeddedEtcd, page: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await run_examples(RECIPES / f"{page}.md", own_etcd.endpoint, {"print": print})
    assert re.search(says, capsys.readouterr().out)


@pytest.mark.parametrize("page", ["barrier", "topic", "progress"])
async def test_the_examples_of_a_page_for_which_there_is_a_session_run(
    own_etcd: EmbeddedEtcd, page: str
) -> None:
    async with (
        Etcd([own_etcd.endpoint]) as client,
        await Session.open(client, TIMING) as session,
        asyncio.timeout(20),
    ):
        names: dict[str, object] = {
            **{"client": client, "session": session, "aclosing": aclosing},
            **{"Barrier": Barrier, "Topic": Topic, "Progress": Progress},
        }
        await run_examples(RECIPES / f"{page}.md", own_etcd.endpoint, names)


async def test_the_examples_of_the_registry_run(own_etcd: EmbeddedEtcd) -> None:
    printed: list[object] = []

    async with (
        Etcd([own_etcd.endpoint]) as client,
        Registry(client).register("greeter", "10.0.0.6:50051"),
    ):
        names: dict[str, object] = {"etcd": client, "print": lambda *words: printed.append(words)}
        await run_examples(RECIPES / "registry.md", own_etcd.endpoint, names, but="signal")
    assert "10.0.0.5:50051" in str(printed)


def test_the_example_of_the_registry_that_heeds_sigterm_unregisters_long_before_its_ttl(
    etcd: EmbeddedEtcd, namespace: str
) -> None:
    (example,) = (each for each in examples_of((RECIPES / "registry.md").read_text()) if "signal" in each)
    script = (
        "import asyncio, signal, sys\n"
        "from leaderjob.etcd import Etcd\n"
        "from leaderjob.recipes import Registry\n"
        "async def main():\n"
        "  async with Etcd([sys.argv[1]]) as etcd:\n"
        "    registry = Registry(etcd, namespace=sys.argv[2])\n"
        f"{textwrap.indent(example, '    ')}"
        "asyncio.run(main())"
    )

    async def until_there_are(count: int) -> None:
        async with (
            Etcd([etcd.endpoint]) as client,
            Registry(client, namespace=namespace).following("greeter") as followed,
        ):
            instances = followed.instances
            while len(instances) != count:
                instances = await followed.changed(instances)

    with Lines(sys.executable, "-c", script, etcd.endpoint, namespace) as server:
        run_with_streams(until_there_are(1))
        server.terminate()
        assert server.wait(8) == 0
        run_with_streams(until_there_are(0), timeout_s=6)  # the TTL is 10


async def test_the_example_of_balancing_runs(own_etcd: EmbeddedEtcd) -> None:
    printed: list[object] = []

    class Named(Greeter):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
            known = handler_call_details.method == "/Greeter/SayHello"
            return grpc.unary_unary_rpc_method_handler(self._hello) if known else None

    async with (
        Etcd([own_etcd.endpoint]) as client,
        Named("Hello, Ada") as server,
        Registry(client).register("greeter", server.address),
    ):
        names: dict[str, object] = {"etcd": client, "print": printed.append}
        await run_examples(RECIPES / "balancing.md", own_etcd.endpoint, names)
    assert printed == [b"Hello, Ada"]
