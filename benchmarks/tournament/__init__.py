"""Recipes beside each other: locks, queues, topics and registries, each library on its own server, in turns.

``peers`` is what runs in the process of an entrant, in a virtualenv of its own if need be: it imports nothing but
Python and that entrant's library. Everything else runs in the benchmark's own process.
"""
