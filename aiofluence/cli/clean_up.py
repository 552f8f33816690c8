"""The clean-up line on stderr at the end of a command: how many instances have ended, and the time left.

It reads the session's custody once a second and ends nothing itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import aiofluence

from ..display.table import minutes
from ..models.instances import InstanceRef
from ..models.spending import until_minimum
from .console import listed, note
from .printable import printable

_EVERY: Final = 1.0
"""Seconds between two readings of the custody."""
_QUIET: Final = 30.0
"""Seconds after which a pipe or a file gets a line without a change."""


class CleanUp:
    """The display of one session's clean-up.

    Args:
        custody: returns the current custody of the session.
        is_interrupted: returns True if Ctrl-C was pressed once, so that the next one leaves at once.
    """

    def __init__(self, custody: Callable[[], aiofluence.Custody], is_interrupted: Callable[[], bool]) -> None:
        self._custody = custody
        self._is_interrupted = is_interrupted
        self._seen: set[InstanceRef] = set()

    async def show(self) -> None:
        """Show the line, and update it until cancelled."""
        loop = asyncio.get_running_loop()
        shown, shown_at, is_open = "", loop.time(), False
        try:
            while True:
                line, now = self.line(), loop.time()
                counts = line.partition(", about")[0]
                if line and sys.stderr.isatty():
                    sys.stderr.write(f"\r\x1b[K{printable(line)}")
                    sys.stderr.flush()
                    is_open = True
                elif line and (counts != shown or now - shown_at >= _QUIET):
                    note(line)
                    shown, shown_at = counts, now
                await asyncio.sleep(_EVERY)
        finally:
            if is_open:
                sys.stderr.write("\n")
                sys.stderr.flush()

    def line(self) -> str:
        """Return `5 of 8 ended, about 1:20 left; Ctrl-C again leaves 3 running`; empty when all is done."""
        custody = self._custody()
        left = {*custody.ending, *custody.lost}
        self._seen |= left
        running = len(left) + len(custody.deploying)
        parts = []
        if running:
            total = len(self._seen) + len(custody.deploying)
            parts.append(f"{total - running} of {total} ended")
            if custody.seconds_left is not None:
                parts.append(f"about {minutes(custody.seconds_left)} left")
            if custody.refused:
                parts.append(until_minimum(len(custody.refused)))
        elif custody.watching:
            watched = listed(list(dict.fromkeys(custody.watching)))
            parts.append(f"watching for late duplicates of {watched}")
        text = ", ".join(parts)
        if text and self._is_interrupted():
            text += f"; Ctrl-C again leaves {running} running" if running else "; Ctrl-C again leaves"
        return text
