"""From a spec to a running machine and back: watch, wait, deploy exactly once, custody.

Built on `resources`; composed and owned by `session`, which no module here knows.
"""
