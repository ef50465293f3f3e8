"""The pages that are written from the code are what the code says."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_page_is_current() -> None:
    written_from_code = runpy.run_path(str(ROOT / "tools" / "settings_page.py"))["page"]()

    assert (ROOT / "docs" / "settings.md").read_text() == written_from_code, "python tools/settings_page.py"


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")

    assert broken == []


def test_the_tests_that_a_page_names_are_there() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:unit|integration|faults|property)/test_[^`]*\.py)`", page.read_text()):
            assert list((ROOT / "tests").glob(name)), f"{page.name} names {name}"
