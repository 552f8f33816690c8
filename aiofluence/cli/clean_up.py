"""The clean-up at the end of a command, on stderr: what is being ended, how many are gone, and how long.

Reads the session's custody once a second; ends nothing itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Final

import aiofluence

from ..models.instances import InstanceRef
from .display import minutes
from .output import note
from .printable import printable

_EVERY: Final = 1.0
"""Seconds between two looks at the custody."""
_QUIET: Final = 30.0
"""Seconds after which a pipe or a file gets a line although nothing has changed."""
_TYPICAL: Final = 160.0
"""Seconds from a deploy to its end: the provisioning takes about 150, the DELETE a few."""


class CleanUp:
    """Shows the clean-up of one session.

    Args:
        custody: gives the session's custody now.
        began: loop time at which the command began; no deploy is older.
    """

    def __init__(self, custody: Callable[[], aiofluence.Custody], began: float) -> None:
        self._custody = custody
        self._began = began
        self._seen: dict[InstanceRef, None] = {}
        self._started: float | None = None
        self._line = ""
        self._is_open = False

    async def show(self, interrupted: bool) -> None:
        """Show the line, and renew it until cancelled."""
        loop = asyncio.get_running_loop()
        shown, at = "", float("-inf")
        try:
            while True:
                line, now = self.line(interrupted, loop.time()), loop.time()
                counts = line.partition(", about")[0]
                if not line:
                    pass
                elif sys.stderr.isatty():
                    sys.stderr.write(f"\r\x1b[K{printable(line)}")
                    sys.stderr.flush()
                    self._is_open = True
                elif counts != shown or now - at >= _QUIET:
                    note(line)
                    shown, at = counts, now
                await asyncio.sleep(_EVERY)
        finally:
            if self._is_open:
                sys.stderr.write("\n")
                sys.stderr.flush()

    def line(self, interrupted: bool, now: float) -> str:
        """`5 of 8 ended, about 1:20 left; Ctrl-C again leaves 3 running`; empty when nothing is awaited."""
        custody = self._custody()
        left = {*custody.ending, *custody.lost}
        self._seen.update(dict.fromkeys(left))
        running = len(left) + len(custody.deploying)
        parts = []
        if running:
            total = len(self._seen) + len(custody.deploying)
            parts.append(f"{total - running} of {total} ended")
            seconds = self._began + _TYPICAL - now
            if custody.ending and seconds >= 1:
                parts.append(f"about {minutes(seconds)} left")
            if custody.lost:
                parts.append(f"{len(custody.lost)} could not be ended yet")
        elif custody.watching:
            names = len(set(custody.watching))
            parts.append(f"watching for late duplicates of {names} name{'s' if names > 1 else ''}")
        text = ", ".join(parts)
        if not text or not interrupted:
            return text
        return f"{text}; Ctrl-C again leaves {running} running" if running else f"{text}; Ctrl-C again leaves"
