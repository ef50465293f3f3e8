"""The findings in files: as JSON that can be read again, and in the pages of the documentation."""

import json
from pathlib import Path

from leaderjob.errors import SettingsError
from takeover.plot import draw
from takeover.results import Findings
from takeover.table import markdown

BEGIN, END = MARKS = "<!-- failover: written by benchmarks/failover.py -->", "<!-- failover: end -->"


def read_findings(path: Path) -> Findings:
    """:raises SettingsError: the file cannot be read, or is none of ours."""
    try:
        text = path.read_text()
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read ({error.strerror}): name a file that --json wrote"
        ) from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}): name a file that --json wrote") from error
    return Findings.from_json(found)


def write_pages(found: Findings, docs: Path) -> None:
    """``failover.svg``, ``failover.json``, and the marked part of ``benchmarks.md``.

    :raises SettingsError: the page has no such part.
    """
    page = docs / "benchmarks.md"
    text = with_table(page.read_text(), markdown(found))
    (docs / "failover.svg").write_text(draw(found))
    (docs / "failover.json").write_text(json.dumps(found.as_json()) + "\n")
    page.write_text(text)


def with_table(page: str, table: str, marks: tuple[str, str] = MARKS) -> str:
    """The page with what is between its marks replaced. :raises SettingsError: it has no such marks."""
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SettingsError(
            f"the page has no part between {marks[0]} and {marks[1]}, so the table has no place: put them in"
        )
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"
