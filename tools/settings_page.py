"""Write docs/settings.md from the docstrings of the settings: ``python tools/settings_page.py``."""

import sys
from pathlib import Path

from leaderjob.settings import PREFIX, JobOverride, Settings
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
_INTRODUCTION = """# Settings

Read from `leaderjob.toml` in the current directory (or `--config FILE`), then from variables of the
environment, then from flags; the later ones win. Lists are comma-separated or JSON. Durations are seconds
(`10`) or have a unit (`250ms`, `10s`, `5m`, `2h`). A name that does not exist is an error that names the nearest
right one. Written from the code by `python tools/settings_page.py`.
"""


def page() -> str:
    """The whole page, as it should be."""
    parts = [_INTRODUCTION]
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts.append(f"\n## `[{name}]`\n\n{kind.__doc__}\n\n{_table(kind, f'{name}_')}")
        elif name != "overrides":
            parts.append(f"\n## `{name}`\n\n{field.description} Variable: `{PREFIX}{name.upper()}`.\n")
    parts.append("\n## `[overrides.<job>]`\n\nWhat is different for one job from what its module says.\n\n")
    parts.append(_table(JobOverride, None))
    return "".join(parts)


def _table(group: type[BaseModel], variables: str | None) -> str:
    lines = ["| setting | meaning | default |" + (" variable |" if variables else "")]
    lines.append("|---|---|---|" + ("---|" if variables else ""))
    for name, field in group.model_fields.items():
        cells = [f"`{name}`", field.description or "", _default(field)]
        if variables:
            cells.append(f"`{PREFIX}{variables.upper()}{name.upper()}`")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined or field.default in (None, (), {}):
        return "–"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
