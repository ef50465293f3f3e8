"""What the tests share: real etcd servers, running coroutines, and the rules of the session.

May not live here: tests, fakes of what can be had for real, anything that a test needs alone.
"""
