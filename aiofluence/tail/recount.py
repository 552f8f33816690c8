"""Cases in which an overlap is no proof, because the window may lie within a repetition of known lines.

If a window ends like the known lines, either nothing is new or the same block was written again: a traceback
each minute, a table in a loop. Only a window wider than the block decides. Pure arithmetic.
"""

from __future__ import annotations

from .known import MEMORY

__all__ = ["Recount"]

PAUSE = 5.0
"""Seconds without new lines that end a burst. Lines that arrive as one burst may recur as one."""
FIRST = 60.0
"""Seconds of silence before the first wider poll. Each further one waits `RARER` times as long."""
RARER = 4
WIDER = 4
"""Factor by which each further wide poll in one silence is wider than the previous."""
LEAST = 64
"""Minimum overlap of the first wide poll, in lines."""
BESIDE = 16
"""Lines of overlap beyond the block that may have been repeated."""


class Recount:
    """The block of lines that one pod's log may repeat, and the overlap that would show a repetition."""

    def __init__(self) -> None:
        self._block = 0  # number of lines in the current burst, or in an earlier one that was much longer
        self._came_at: float | None = None  # time of the last new line
        self._due = 0.0
        self._reach = LEAST

    def came(self, new: int, now: float) -> None:
        """Note that `new` lines were delivered at `now` (seconds)."""
        if not new:
            return
        pausing = self._came_at is None or self._is_pause(now)
        # One or two lines after a long block may belong to that block, so its size decays slowly.
        self._block = min(MEMORY, max(new, self._block // 2) if pausing else self._block + new)
        self._came_at, self._due, self._reach = now, now + FIRST, LEAST

    def looked(self, now: float) -> None:
        """Note a wider poll. The next one in the same silence is later and wider."""
        if self._came_at is not None and now >= self._due:
            self._due = now + (RARER - 1) * (now - self._came_at)
            self._reach *= WIDER

    def overlap(self, new: int, now: float, *, ending: bool) -> int:
        """Return the overlap in lines that proves at most `new` lines are new; 0: any overlap does."""
        if ending:
            return MEMORY
        if new:
            return self._block + BESIDE if self._is_pause(now) else 0
        if self._came_at is None or now < self._due:
            return 0
        return min(MEMORY, max(self._block + BESIDE, self._reach))

    def _is_pause(self, now: float) -> bool:
        return self._came_at is not None and now - self._came_at >= PAUSE
