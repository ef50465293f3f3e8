"""Clients of etcd beside each other, on one server, in turns.

``peers`` is what runs in the process of a contestant, in a virtualenv of its own if need be: it imports nothing
but Python and that contestant's client. Everything else runs in the benchmark's own process.
"""
