"""The recipes in the README do what they say."""

import ast
import inspect
import textwrap
import types
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import BaseModel

from leaderjob import recipes
from leaderjob.embedded.etcd import EmbeddedEtcd
from leaderjob.etcd import Etcd
from leaderjob.recipes import Session
from tests.support.examples import ROOT, examples_of

README = ROOT / "README.md"


class Limits(BaseModel):
    per_second: int = 10


async def test_every_example_of_a_recipe_runs(
    own_etcd: EmbeddedEtcd, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README.read_text().split("\n## Recipes\n")[1].split("\n## ")[0]
    examples = examples_of(section)
    lines = [line for example in examples for line in example.splitlines()]
    assert len(examples) == section.count("\n[**"), "each recipe has one"
    source = "async def everything(session):\n" + textwrap.indent("\n".join(lines), "    ")
    assert ast.parse(source)

    async with Etcd([own_etcd.endpoint]) as etcd, await Session.open(etcd) as session:
        names: dict[str, Any] = {name: getattr(recipes, name) for name in recipes.__all__}
        names |= {"etcd": etcd, "aclosing": aclosing, "Limits": Limits}
        code = compile(source, str(README), "exec")
        exec(code, names)
        everything = names["everything"]
        assert isinstance(everything, types.FunctionType)
        ran = everything(session)
        assert inspect.isawaitable(ran)
        await ran
    said = capsys.readouterr().out
    for expected in ("b'to alice'", "10.0.0.5:50051", "b'tea 3'", "20", "ended"):
        assert expected in said
