"""Tails: iterators over the log lines and events of containers, although the service has no cursor.

`stitch` finds the new lines of a reply, without I/O. `follower` does the polling. `Session` returns the tails
of `logs`, `events` and `merged`.
"""
