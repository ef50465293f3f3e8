"""Runs job code in child processes and makes sure that they end: replica → guard → worker.

Lives here: the guard (a tiny parent of every worker), the workers' entry points, the protocol between
them, and the replica's side of it (one attempt of a run; the queries on a published version).

May not live here: etcd, records, terms or leases (a trust deadline arrives as a number), the decision
whether to run or to retry, and anything that imports a job's module into the replica. This file imports
nothing, because every worker imports it.
"""
