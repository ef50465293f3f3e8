"""Who is there: this replica's heartbeat record, the verdict on a dead predecessor, the store's history.

Knows replicas and candidates; knows nothing of jobs, runs or results.
"""
