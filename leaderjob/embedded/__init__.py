"""An etcd server of our own, for trying leaderjob out and for tests.

Lives here: starting and ending one etcd member, choosing ports for it, the local cluster that ``demo``
starts, and the note that a running demo leaves for the other commands. May not live here: anything
that a replica needs in production, any use of etcd's API (that is ``leaderjob.etcd``), any knowledge
of jobs.
"""
