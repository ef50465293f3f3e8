"""A replica with a defect: ``python -m tests.faults.history.defective --defect NAME -- run ARGUMENTS``

Defects are of leaderjob, as if somebody had left out what makes it safe; see ``defects.py``. With ``--fault`` a
moment is hit that no signal from outside would hit: see ``faults.py``. Both may be left out.
"""

import argparse
import sys

from leaderjob.cli.main import main as command_line
from tests.faults.history.defects import DEFECTS
from tests.faults.history.faults import FAULTS


def main() -> None:
    parser = argparse.ArgumentParser(prog="defective")
    parser.add_argument("--defect", choices=sorted(DEFECTS))
    parser.add_argument("--fault", choices=sorted(FAULTS))
    parser.add_argument("arguments", nargs="+", help="of leaderjob")
    options = parser.parse_args()
    if options.defect is not None:
        DEFECTS[options.defect]()
    if options.fault is not None:  # around what is defective
        FAULTS[options.fault]()
    sys.argv = ["leaderjob", *options.arguments]
    command_line()


if __name__ == "__main__":
    main()
