"""Write constraints.txt anew: the newest versions that fit together, from a virtualenv made without it.

Run by ``make constraints``, with the oldest Python that the project supports: what fits that one is
made for the newer ones too, and packages that only the newer ones need stay free.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import environment

_HEADER = """\
# Versions that are known to work together: what `make demo` and `make test` install.
# Made by `make constraints` with Python {version}. Not a list of dependencies: that is pyproject.toml.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            environment.build(Path(folder), "dev", constraints=None)
        except environment.BuildFailed as failure:
            sys.exit(str(failure))
        frozen = subprocess.run(
            [Path(folder, "bin", "python"), "-I", "-m", "pip", "freeze", "--exclude-editable"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    lines = [line for line in frozen.stdout.splitlines() if "==" in line]
    header = _HEADER.format(version="{}.{}".format(*sys.version_info))
    environment.CONSTRAINTS.write_text(header + "\n".join(lines) + "\n")
    print(f"leaderjob: constraints.txt has {len(lines)} versions")


if __name__ == "__main__":
    main()
