"""From the trials of the failover benchmark to its figures, its targets, its pages and its plot."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from leaderjob.errors import SettingsError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def _row(values_ms: list[float], *, contestant: str = "leaderjob", **more: Any) -> Any:
    from takeover.results import Row

    return Row(contestant, "killed", "acting leader", 10.0, values_ms=values_ms, **more)


def _findings(*rows: Any, steps_ms: tuple[float, ...] = (), absent: dict[str, str] | None = None) -> Any:
    from takeover.results import Findings, Step

    steps = [Step(f"step {number}", [value, value, 99.0]) for number, value in enumerate(steps_ms)]
    return Findings("two cores", list(rows), steps, absent or {})


def test_a_median_over_its_target_is_a_problem_that_is_told() -> None:
    from takeover.results import Target
    from takeover.table import render

    found = _findings(_row([9.0, 11.0, 12.0], target=Target(p50_ms=10)))
    assert found.problems == ["leaderjob, killed, acting leader: p50 11.0 ms, not 10"]
    assert f"not as it should be: {found.problems[0]}" in render(found)
    assert _findings(_row([9.0, 10.0, 12.0], target=Target(p50_ms=10))).problems == []


def test_a_p99_is_judged_only_where_there_are_values_enough_for_one() -> None:
    from takeover.results import Target

    target = Target(p99_ms=60)
    assert _row([1.0] * 98 + [70.0], target=target).missed == []
    assert _row([1.0] * 98 + [70.0, 70.0], target=target).missed == ["p99 70.0 ms, not 60"]
    assert _row([1.0] * 99 + [70.0], target=target).missed == []


def test_one_trial_beyond_a_maximum_misses_it() -> None:
    from takeover.results import Target

    assert _row([2900.0, 3601.0], target=Target(max_ms=3600)).missed == ["max 3601.0 ms, not 3600"]


def test_a_trial_that_went_otherwise_is_told_and_not_counted() -> None:
    from takeover.table import markdown, render

    found = _findings(_row([5.0], otherwise=["trial 2: r3 took over, though r2 was next"]))
    assert len(found.problems) == 1
    for text in (render(found), markdown(found)):
        assert "not as it should be: leaderjob, killed, acting leader: trial 2: r3 took over" in text


def test_the_limit_is_the_sum_of_the_medians_of_its_steps() -> None:
    from takeover.table import render

    found = _findings(steps_ms=(1.5, 0.25, 2.0))
    assert found.limit_ms == pytest.approx(3.75)
    assert render(found).count("3.75") == 1


def test_who_is_left_out_is_named_with_how_to_get_it() -> None:
    from takeover.table import markdown, render

    found = _findings(
        _row([5.0]), absent={"tooz, Redis": "there is no redis-server here: apt install redis-server"}
    )
    for text in (render(found), markdown(found)):
        assert "left out: tooz, Redis: there is no redis-server here: apt install redis-server" in text


def test_every_row_of_the_markdown_has_as_many_cells_as_its_heading() -> None:
    from takeover.table import markdown

    table = markdown(_findings(_row([5.0, 1234.5]), _row([]), steps_ms=(1.0, 2.0))).split("\n")
    first, second = [row for row in table if row.startswith("| leaderjob")]
    assert first.endswith("| 2 | 5.0 | 1,234 | 1,234 |  |")
    assert "| 0 | - | - | - |" in second
    widths = [row.count("|") for row in table if row.startswith("|")]
    assert widths == [9] * 4 + [4] * 5


def test_what_was_written_as_json_is_read_again_as_it_was(tmp_path: Path) -> None:
    from takeover.pages import read_findings
    from takeover.results import Target

    found = _findings(
        _row([5.123, 6.5], target=Target(10, 60), otherwise=["trial 3: no"]),
        steps_ms=(1.25,),
        absent={"a": "b"},
    )
    written = tmp_path / "found.json"
    written.write_text(json.dumps(found.as_json()))
    assert read_findings(written) == found


@pytest.mark.parametrize(
    "text", ["no json", "{}", '{"machine": "m", "rows": [{"x": 1}], "steps": [], "absent": {}}']
)
def test_a_file_that_is_not_a_result_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    from takeover.pages import read_findings

    other = tmp_path / "other.json"
    other.write_text(text)
    with pytest.raises(SettingsError, match="--json"):
        read_findings(other)
    with pytest.raises(SettingsError, match=r"absent\.json cannot be read"):
        read_findings(tmp_path / "absent.json")


def test_the_table_replaces_what_was_between_its_marks_and_nothing_else(tmp_path: Path) -> None:
    from takeover.pages import BEGIN, END, write_pages

    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_pages(_findings(_row([5.0])), tmp_path)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n\ntwo cores.")
    assert text.endswith(f"\n\n{END}\nafter\n")
    assert "old" not in text
    write_pages(_findings(_row([5.0])), tmp_path)
    assert page.read_text() == text
    assert (tmp_path / "failover.svg").read_text().startswith("<svg")


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    from takeover.pages import write_pages

    page = tmp_path / "benchmarks.md"
    page.write_text("nothing here\n")
    with pytest.raises(SettingsError, match="the table has no place"):
        write_pages(_findings(_row([5.0])), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks.md"]


def test_the_page_of_the_documentation_has_the_marks() -> None:
    from takeover.pages import with_table

    page = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_text()
    assert "\n\nthe table\n\n" in with_table(page, "the table")


def test_ten_times_as_long_is_as_far_everywhere_on_the_axis_of_the_plot() -> None:
    from takeover.plot import position

    steps = [position(10.0 ** (power + 1)) - position(10.0**power) for power in range(5)]
    assert steps == pytest.approx([steps[0]] * 5, abs=0.2)
    assert steps[0] > 50
    assert position(0.01) == position(1.0)
    assert position(1e9) == position(1e5)


def test_the_marks_of_a_row_are_where_its_figures_are() -> None:
    from takeover.plot import draw, position

    plot = ET.fromstring(draw(_findings(_row([5.0] * 98 + [40.0, 300.0]))))
    last, median = plot.findall(f"{SVG}circle")[-2:]
    assert float(median.attrib["cx"]) == position(5.0)
    assert float(last.attrib["cx"]) == position(300.0)
    assert position(40.0) in [float(line.attrib["x1"]) for line in plot.findall(f"{SVG}line")]
    assert "5.0 / 40 / 300 ms (100)" in _texts(plot)


def test_the_plot_shows_ours_before_others_and_nobody_without_a_value() -> None:
    from takeover.plot import draw

    rows = (_row([9e3], contestant="kazoo"), _row([], contestant="tooz"), _row([5.0]))
    texts = _texts(ET.fromstring(draw(_findings(*rows, steps_ms=(4.0,)))))
    assert texts.index("killed") < texts.index("kazoo")
    assert "tooz" not in texts
    assert "the limit after a crash: 4.0 ms" in texts


def test_what_is_shown_cannot_break_the_plot() -> None:
    from takeover.plot import draw

    texts = _texts(ET.fromstring(draw(_findings(_row([5.0], contestant="<a & b>")))))
    assert "<a & b>" in texts


def _texts(plot: ET.Element) -> list[str]:
    return [text.text or "" for text in plot.findall(f"{SVG}text")]
