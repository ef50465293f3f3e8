"""One module per client, each a program: ``python -m contest.peers.with_NAME HOST PORT``.

It answers one JSON line (a turn's outcome) to each JSON line (a turn) until its input ends.
"""
