"""The example of the page on queues does what it says."""

import ast
import inspect
import re
import types
from pathlib import Path

import pytest

from leaderjob.embedded.etcd import EmbeddedEtcd
from tests.support.streams import run_with_streams

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "queue.md"


def test_the_example_runs(own_etcd: EmbeddedEtcd, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    source = example.replace("127.0.0.1:2379", own_etcd.endpoint)
    code = compile(source, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def main() -> None:
        ran = types.FunctionType(code, {"print": print})()
        assert inspect.isawaitable(ran)
        await ran

    run_with_streams(main())
    assert capsys.readouterr().out == "b'to alice' 1\n"
