"""How long nobody leads when a leader goes: ours and others', on servers of their own, in one run.

``members``, ``machines`` and ``servers`` start what is needed; ``cluster`` is three replicas of ours, and ``faults``
is what happens to them. ``rivals`` are candidates of others. ``results`` is what was found, which ``table`` and
``plot`` show. ``candidates`` holds the programs that run in a rival's virtualenv: they import nothing of ours.
"""
