"""The examples of the pages on locks and elections run as they stand there."""

import ast
import inspect
import re
import types
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.streams import run_with_streams

PAGES = Path(__file__).resolve().parents[2] / "docs" / "recipes"


@pytest.mark.parametrize("page", ["lock.md", "election.md"])
def test_the_example_runs(own_etcd: EmbeddedEtcd, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    code = compile(
        example.replace("127.0.0.1:2379", own_etcd.endpoint),
        page,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )

    async def main() -> None:
        ran = types.FunctionType(code, {})()
        assert inspect.isawaitable(ran)
        await ran

    run_with_streams(main())
    assert re.search(r"token \d+\n", capsys.readouterr().out)
