"""Whether a replica with given settings would run here: one check a thing, each with a verdict.

Looks and changes nothing, neither in etcd nor on the disk. What a running replica does when something is
wrong lives where it does it.
"""
