"""What a replica does in every role: fetch, verify, activate, and answer queries from what is active.

Follows what was published, never asks the leader what to do. Term work lives in ``engine``.
"""
