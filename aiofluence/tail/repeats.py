"""Evidence of repeated lines in one pod's log, where an overlap alone shows nothing new.

If a window ends like the known lines, either nothing is new or the same block was written again: a traceback
each minute, a table in a loop. Only a window wider than the block, or the count of the whole log, decides.
`pod_log` requests them.
"""

from __future__ import annotations

from .known import HEAD, MEMORY, Known
from .overlap import Fit, Hashes, Place, contains, last_period, locate
from .windows import WHOLE, WIDEST, Window

__all__ = ["NARROWEST", "RECURRING", "Recount", "Repeats"]

NARROWEST = 16
"""Minimum overlap that is requested, in lines."""

RECURRING = 2048
"""Number of lines that are searched for a recurring block."""

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
        self.latest: int = 0  # number of lines that arrived at once, the last time that they were many
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
        if self._came_at is not None:
            self.latest = max(new, self.latest // 2)
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


class Repeats(Known):
    """The newest lines of one pod's log, and which of them may have been repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.recount: Recount = Recount()
        self.repeated: bool = False  # lines of this log were seen to recur
        self.behind: bool = False  # all counting begins after a line that is too long to be shown
        self.limited: bool = False  # the service answers no wider window

    def _confirming(self, answer: Window, seen: Hashes[int], new: int) -> int:
        """Return the window that shows if a block was repeated unseen by this answer; 0: no doubt."""
        if self.behind or self.limited:
            return 0
        if answer.hint == new and len(seen) <= answer.asked // 4 and not answer.ending:
            return 0  # the lines of the other pods join, and were written at the same time
        if answer.ending and self.repeated and self.end is not None and answer.asked < WHOLE:
            return WHOLE
        overlap = len(seen) - new
        need = self.recount.overlap(new, answer.now, ending=answer.ending)
        need = need and max(need, self.recurred + NARROWEST)
        self.recount.looked(answer.now)
        if overlap >= min(need, self.unbroken):
            return 0
        if answer.shared:  # so many lines of this pod, not of all pods
            ask = (need + new + NARROWEST) * answer.asked // max(1, len(seen))
            return ask if ask <= max(WIDEST, 4 * answer.asked) else (MEMORY + answer.asked) * answer.ending
        ask = need + new + min(2 + new, NARROWEST)
        return ask if self.end is None else min(ask, self.end + new + 4 * NARROWEST)

    def _after_pause(self, answer: Window) -> int:
        """Return the first window that may join and confirm lines after a pause; 0 without a pause."""
        need = self.recount.overlap(1, answer.now, ending=answer.ending)
        return need and min(need, self.unbroken) + max(4 * NARROWEST, self.recount.latest * 5 // 4)

    def _uncounted(self, answer: Window, seen: Hashes[int], head: int = HEAD) -> int | None:
        """Return how many lines of the whole log are not delivered; None: it may be another log.

        `head`: number of first lines that must be known. One suffices if the last lines join, too.
        """
        if not answer.whole or self.end is None or len(self.head) < head or self.behind:
            return None
        return len(seen) - self.end if seen[: len(self.head)] == self.head else None

    def _joins_by_fewer(self, seen: Hashes[int], uncounted: int | None) -> int | None:
        """Return the number of new lines by the last few known lines alone; None if those do not decide.

        A count proves that the log is the known one, and limits the number of new lines.
        """
        fewer = self.unbroken // 2
        while fewer:
            place = locate(self.known, fewer, seen)
            counted = uncounted is not None and place.new <= uncounted
            if place.fit is Fit.SURE or (counted and place.fit in (Fit.REPEATS, Fit.WEAK)):
                return place.new
            fewer //= 2
        return None

    def _only_repeats(self, seen: Hashes[int], place: Place) -> bool:
        """Return True if the new lines only repeat an earlier block, so that only their number is open."""
        lines = self.known[-min(self.unbroken, RECURRING) :]
        period = last_period(lines)
        if not period:
            return False
        block = lines[-period:]
        if place.fit is Fit.NONE:  # all lines of the reply are new, and begin anywhere in the block
            return contains(block * (len(seen) // period + 2), seen)
        joined = block + seen[len(seen) - place.new :]
        return joined[period:] == joined[:-period]
