"""The examples of a page, run as they stand there."""

import ast
import inspect
import re
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def examples_of(text: str) -> list[str]:
    """The blocks of Python in a page."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def run_examples(
    page: Path, endpoint: str, names: dict[str, object], *, but: str | None = None
) -> None:
    """Run them in the order of the page, ``await`` outside functions and all; each finds what those before it made.

    :param endpoint: of etcd, in the place of the one in the page.
    :param names: what they find at the beginning; all that they make is added.
    :param but: the examples that have this in them are left out.
    """
    examples = [each for each in examples_of(page.read_text()) if but is None or but not in each]
    assert examples, f"{page.name} has none"
    for example in examples:
        source = example.replace("127.0.0.1:2379", endpoint)
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        ran = types.FunctionType(code, names)()
        if inspect.isawaitable(ran):
            await ran
