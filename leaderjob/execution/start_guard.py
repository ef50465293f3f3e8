"""Starts ``guard.py``, as a file: ``python -I -S start_guard.py ARGUMENTS``; ``protocol.py`` describes these.

A file that is started is compiled each time, which costs a long one a third of its start; what is imported
is kept compiled.
"""

import sys

if __name__ == "__main__":
    # Last, so that nothing here is taken for a module of the standard library.
    sys.path.append(__file__.rpartition("/")[0])
    from guard import main  # type: ignore[import-not-found]

    main(sys.argv[1:])
