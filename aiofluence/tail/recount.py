"""When an overlap is no proof yet, because the window may lie inside a repetition of what is known.

A window that ends as the known lines end shows nothing new, or the same block once more: a traceback each
minute, a table in a loop. Only a window that holds more than the block decides. Numbers in, numbers out.
"""

from __future__ import annotations

from .known import MEMORY

__all__ = ["Recount"]

PAUSE = 5.0
"""Seconds without new lines that end a spurt. What comes as one spurt may come again as one."""
FIRST = 60.0
"""Seconds of silence before the first wider look; each further one comes after `RARER` times as long."""
RARER = 4
WIDER = 4
"""Times by which each further look in one silence is wider than the one before."""
LEAST = 64
"""Lines of overlap of the first look at least."""
BESIDE = 16
"""Lines of overlap beyond the block that may have been repeated."""


class Recount:
    """The lines that one pod's log may repeat as a block, and the overlap that would show it."""

    def __init__(self) -> None:
        self._block = 0  # lines of the spurt under way, or of an earlier one that was much longer
        self._came_at: float | None = None  # time of the last new line
        self._look_at = 0.0
        self._reach = LEAST

    def came(self, new: int, now: float) -> None:
        """Notice that `new` lines came out at `now` (seconds)."""
        if not new:
            return
        pausing = self._came_at is None or self._is_pause(now)
        # A line or two behind a long block may belong to it: the block is forgotten by and by.
        self._block = min(MEMORY, max(new, self._block // 2) if pausing else self._block + new)
        self._came_at, self._look_at, self._reach = now, now + FIRST, LEAST

    def looked(self, now: float) -> None:
        """Notice a wider look: the next one in the same silence is later and wider."""
        if self._came_at is not None and now >= self._look_at:
            self._look_at = now + (RARER - 1) * (now - self._came_at)
            self._reach *= WIDER

    def overlap(self, new: int, now: float, *, ending: bool) -> int:
        """Lines of overlap that it takes to believe that no more than `new` lines came; 0: any number."""
        if ending:
            return MEMORY
        if new:
            return self._block + BESIDE if self._is_pause(now) else 0
        if self._came_at is None or now < self._look_at:
            return 0
        return min(MEMORY, max(self._block + BESIDE, self._reach))

    def _is_pause(self, now: float) -> bool:
        return self._came_at is not None and now - self._came_at >= PAUSE
