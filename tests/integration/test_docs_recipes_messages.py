"""The examples of the pages on barriers, topics and progress do what they say."""

import ast
import asyncio
import inspect
import re
import types
from contextlib import aclosing
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Barrier, Progress, Session, Topic
from tests.support.candidates import TIMING
from tests.support.streams import run_with_streams

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"


def test_every_example_runs_in_the_order_of_its_page(own_etcd: EmbeddedEtcd) -> None:
    async def main() -> None:
        async with (
            Etcd([own_etcd.endpoint]) as client,
            await Session.open(client, TIMING) as session,
            asyncio.timeout(20),
        ):
            for page in ("barrier", "topic", "progress"):
                names: dict[str, object] = {
                    **{"client": client, "session": session, "aclosing": aclosing},
                    **{"Barrier": Barrier, "Topic": Topic, "Progress": Progress},
                }
                path = PAGES / f"{page}.md"
                examples = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
                assert examples
                for example in examples:
                    code = compile(example, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    ran = types.FunctionType(code, names)()
                    if inspect.isawaitable(ran):
                        await ran

    run_with_streams(main())
