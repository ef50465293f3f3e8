"""Which jobs there are: imports job modules in child processes and describes what they define.

Lives here: the child that imports and describes one module, the validated definitions that come of it,
and the check of a run's parameters against them.

May not live here: schedules (carried as strings), running jobs, anything that imports a job's module
into the replica. This file imports nothing, because the describing child imports it.
"""
