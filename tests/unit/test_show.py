"""The demo's verdict on itself, and the words that it searches for."""

import copy
import json
from pathlib import Path

import pytest

from leaderjob.embedded.show import Build, Report
from leaderjob.embedded.words import queries_for

GOOD = Report(
    replicas=2,
    builds=[Build(1, "a", 4, 10, 0.1), Build(2, "b", 9, 10, 0.1)],
    followers={"a": {"version": 2, "verified": True}},
    queries=[
        {"replica": "a", "query": "x", "hits": 3, "top": "t"},
        {"replica": "b", "query": "x", "hits": 3, "top": "t"},
    ],
    failover={"killed": "a", "new_leader": "b", "milliseconds": 20.0},
)


def test_a_show_that_proved_everything_has_no_problems() -> None:
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("builds", GOOD.builds[:1]),
        ("builds", [GOOD.builds[0], Build(2, "b", 4, 10, 0.1)]),
        ("builds", [GOOD.builds[0], Build(2, "a", 9, 10, 0.1)]),
        ("builds", [GOOD.builds[0], Build(2, "b", 9, 0, 0.1)]),
        ("followers", {}),
        ("followers", {"a": {"version": 1, "verified": True}}),
        ("followers", {"a": {"version": 2, "verified": False}}),
        ("queries", GOOD.queries[:1]),
        ("queries", [GOOD.queries[0], {"replica": "b", "query": "x", "hits": 0, "top": None}]),
        ("failover", {}),
        ("failover", {"killed": "a", "new_leader": "c", "milliseconds": 20.0}),
    ],
)
def test_each_thing_that_is_missing_is_a_problem(field: str, value: object) -> None:
    report = copy.deepcopy(GOOD)
    setattr(report, field, value)

    assert report.problems() != []


def test_queries_are_words_that_the_corpus_has(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("badgers in winter")
    (tmp_path / "b.md").write_text("winter stories")
    (tmp_path / ".hidden").write_text("nothing nothing")

    queries = queries_for(str(tmp_path), 3)

    assert queries[0] == "winter"
    assert set(queries) <= {"winter", "badgers", "stories"}
    assert len(queries) == 3


def test_a_json_lines_corpus_has_words_too(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"title": "winter", "body": "badgers"}) + "\nnot json\n")

    assert set(queries_for(str(corpus), 2)) == {"winter", "badgers"}


def test_a_corpus_without_words_gives_no_queries(tmp_path: Path) -> None:
    assert queries_for(str(tmp_path), 2) == []
