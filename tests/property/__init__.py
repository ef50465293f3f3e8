"""Models of what etcd's watch and our election promise, held against real servers under random faults.

By default a few examples run, the same ones each time. ``PROPERTY_PROFILE=deep`` runs many, other ones each
time, against every release of etcd that there is, and reduces one that fails to a shorter one that still does.
"""
