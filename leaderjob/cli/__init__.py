"""The command line: one file per family of commands. They parse, call, and print; no rule lives here.

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 the thing asked for failed,
2 wrong usage or settings, 3 etcd not reachable, 4 not acquired or not found.
"""
