"""Evidence of repeated lines in one pod's log, where an overlap alone shows nothing new.

If a window ends like the known lines, either nothing arrived or the whole window was written again. Wider
windows and the count of the whole log decide. `pod_log` requests them.
"""

from __future__ import annotations

from .answer import WHOLE, WIDEST, Window
from .known import HEAD, MEMORY, Known
from .overlap import Fit, Hashes, Place, contains, last_period, locate
from .recount import Recount

__all__ = ["NARROWEST", "RECURRING", "Repeats"]

NARROWEST = 16
"""Minimum overlap that is requested, in lines."""

RECURRING = 2048
"""Number of lines that are searched for a recurring block."""


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
        if answer.ending and self.repeated and self.end is not None and answer.asked < WHOLE:
            return WHOLE
        overlap = len(seen) - new
        need = self.recount.overlap(new, answer.now, ending=answer.ending)
        need = need and max(need, self.recurred + NARROWEST)
        self.recount.looked(answer.now)
        if overlap >= min(need, self.unbroken):
            return 0
        ask = need + new + NARROWEST
        if answer.shared:  # so many lines of this pod, not of all pods
            ask = ask * answer.asked // max(1, len(seen))
            return ask if ask <= max(WIDEST, 4 * answer.asked) else 2 * MEMORY * answer.ending
        return ask if self.end is None else min(ask, self.end + new + 4 * NARROWEST)

    def _uncounted(self, answer: Window, seen: Hashes[int]) -> int | None:
        """Return how many lines of the whole log are not delivered; None: it may be another log."""
        if not answer.whole or self.end is None or len(self.head) < HEAD or self.behind:
            return None
        return len(seen) - self.end if seen[:HEAD] == self.head else None

    def _reaches_back(self, seen: Hashes[int]) -> bool:
        """Return True if the answer has more lines than the longest block that is known to recur."""
        return not self.recurred or len(seen) >= min(self.recurred + NARROWEST, self.unbroken)

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
