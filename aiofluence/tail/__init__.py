"""Following what containers write and what the cluster says of them, although the service has no cursor.

`stitch` finds what is new in an answer, without I/O; `follow` does the polling; `logs`, `events` and
`merged` are what `Session` hands out.
"""
