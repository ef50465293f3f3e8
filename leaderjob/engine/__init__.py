"""What one term does: admit, dispatch, publish, take commands, retain. All of it dies with the term.

Everything here runs in the TaskGroup of one term, writes through its fenced writer, and ends when it
ends. What a replica does in every role (fetch, activate, serve) lives in ``serving``.
"""
