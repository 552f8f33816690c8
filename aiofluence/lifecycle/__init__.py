"""From a spec to a running machine and back: deploying exactly once, waiting, custody, journal, sweep.

Built on `resources` and `polling`. `session` composes and owns the objects, and no module here imports it.
"""
