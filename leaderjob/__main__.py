"""``python -m leaderjob``: the same as the ``leaderjob`` command."""

from leaderjob.cli.main import main

if __name__ == "__main__":
    main()
