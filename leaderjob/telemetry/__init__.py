"""What a running replica tells the people on call: named events, and how they become log lines.

Log lines (and later metrics) derive from the events; nothing else in leaderjob calls a logger.
"""
