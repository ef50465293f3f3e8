"""Reports to Sentry: errors, and check-ins of jobs that have a schedule.

Both derive from the events, as log lines do. What is reported is decided in pure functions (``errors``,
``checkins``); ``client`` hands it to the SDK, whose thread sends it.
"""
