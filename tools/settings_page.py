"""Write docs/settings.md from the docstrings of the settings: ``PYTHONPATH=. python tools/settings_page.py``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from leaderjob.settings import Setting, override_table, tables

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
_INTRODUCTION = """# Settings

Read from `leaderjob.toml` in the current directory (or `--config FILE`), then from variables of the
environment, then from flags; the later ones win. Lists are comma-separated or JSON. Durations are seconds
(`10`) or have a unit (`250ms`, `10s`, `5m`, `2h`). Relative paths begin at the current directory, `~` is the
user's home. A name that does not exist is an error that names the nearest right one. Passwords and DSNs are
never shown.

`leaderjob init` writes a file with all of this in comments; `leaderjob settings` shows what is in force and
where each value came from. This page is written from the code by `tools/settings_page.py`.
"""


def page() -> str:
    """The whole page, as it should be."""
    parts = [_INTRODUCTION]
    for table in tables():
        if table.name:
            parts.append(f"\n## `[{table.name}]`\n\n{table.meaning}\n\n{_table(table.settings)}")
        else:
            parts += [
                f"\n## `{setting.name}`\n\n{setting.meaning} Variable: `{setting.variable}`.\n"
                for setting in table.settings
                if setting.name != "overrides"
            ]
    overrides = override_table()
    parts.append(
        f"\n## `[{overrides.name}]`\n\n{overrides.meaning} Variable, for all jobs in JSON: "
        f"`LEADERJOB_OVERRIDES`.\n\n{_table(overrides.settings, variables=False)}"
    )
    return "".join(parts)


def _table(settings: Sequence[Setting], *, variables: bool = True) -> str:
    columns = ["setting", "meaning", "default", *(["variable"] if variables else [])]
    lines = [_row(columns), "|" + "---|" * len(columns)]
    for setting in settings:
        cells = [f"`{setting.name}`", setting.meaning.replace("|", "\\|"), _default(setting)]
        lines.append(_row([*cells, *([f"`{setting.variable}`"] if variables else [])]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _default(setting: Setting) -> str:
    if setting.default is None:
        return "–"
    text = setting.default if isinstance(setting.default, str) else json.dumps(setting.default)
    return f"`{text}`"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
