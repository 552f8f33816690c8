"""Following logs and events over time, on a service that only ever shows the newest lines.

`stitch` is pure: it decides which lines of an answer are new. The iterators above it ask.
"""
