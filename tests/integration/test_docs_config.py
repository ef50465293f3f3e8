"""The examples of the page on configurations do what it says."""

import ast
import inspect
import re
import types
from pathlib import Path

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.streams import run_with_streams

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "config.md"


def test_every_example_runs_in_the_order_of_the_page(own_etcd: EmbeddedEtcd) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(examples) >= 3
    names: dict[str, object] = {}

    async def main() -> None:
        for example in examples:
            code = compile(
                example.replace("127.0.0.1:2379", own_etcd.endpoint),
                str(PAGE),
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            ran = types.FunctionType(code, names)()
            if inspect.isawaitable(ran):
                await ran
        await names["etcd"].close()  # type: ignore[attr-defined]

    run_with_streams(main())
