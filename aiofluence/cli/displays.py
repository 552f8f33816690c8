"""The choice of a display: for a terminal, or for a pipe or a file.

`live` and `rich_display` have the displays.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from .live import Clock, Display, PlainDisplay


def choose_display(clock: Clock) -> Display:
    """Return the live display on a terminal that can move its cursor, and plain lines otherwise.

    Without the extra `cli`, which brings rich, every display is plain.
    """
    if sys.stdout.isatty():
        with suppress(ModuleNotFoundError):
            from .rich_display import live_display

            return live_display(clock) or PlainDisplay(clock)
    return PlainDisplay(clock)
