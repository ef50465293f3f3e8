"""Frozen values that the rest of leaderjob speaks in, and the pure rules on them. No I/O, no clock.

Records that live in etcd or cross a process boundary are pydantic models; each has a ``v`` field.
"""
