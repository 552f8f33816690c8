"""One poller per kind: the state of every instance that something waits for, and when to request it.

It deploys and ends nothing.
"""
