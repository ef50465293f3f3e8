"""When jobs are due: schedule expressions, the rules behind them, and what becomes of each due fire.

``fields`` and ``crontab`` read crontab expressions, ``zones`` maps wall clocks onto real time, ``triggers``
merges expressions into one trigger, ``plan`` decides, ``alarm`` wakes the leader up. Everything but
``alarm`` is pure: functions of values, without a clock.

Not here: starting anything, reading or writing the ledger, etcd. APScheduler is known to ``alarm`` only.
"""
