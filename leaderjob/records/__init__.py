"""What is stored under ``/leaderjob/<namespace>/``: the keys, the codecs, the fenced writes, the feed.

A public contract, so that anything can watch it. No policy lives here: ``records`` says how a
transition is written, not when one is due.
"""
