"""A healthy cluster under load, for long: what is written down meanwhile, and what it shows."""
