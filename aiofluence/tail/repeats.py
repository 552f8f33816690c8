"""Evidence that lines of one pod's log were repeated, where an overlap alone shows nothing new.

A window that ends as the known lines end shows that nothing came, or that all it holds came once more. Wider
windows and the count of the whole log decide; `sequence` asks for them.
"""

from __future__ import annotations

from .answer import WHOLE, WIDEST, Window
from .known import HEAD, MEMORY, Known
from .overlap import Fit, Hashes, Place, contains, last_period, locate
from .recount import Recount

__all__ = ["NARROWEST", "RECURRING", "Repeats"]

NARROWEST = 16
"""Lines of overlap that are asked for at least."""

RECURRING = 2048
"""Lines in which a block that recurs is looked for."""


class Repeats(Known):
    """The newest lines of one pod's log, and what may have been repeated of them."""

    def __init__(self) -> None:
        super().__init__()
        self.recount: Recount = Recount()
        self.repeated: bool = False  # its lines were seen to recur
        self.behind: bool = False  # all counting begins behind a line that is too long to be shown
        self.limited: bool = False  # no wider window is answered

    def _confirming(self, answer: Window, seen: Hashes[int], new: int) -> int:
        """The window that shows whether a block was repeated where this answer shows none; 0: no doubt."""
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
        if answer.shared:  # so many lines of this pod
            ask = ask * answer.asked // max(1, len(seen))
            return ask if ask <= max(WIDEST, 4 * answer.asked) else 2 * MEMORY * answer.ending
        return ask if self.end is None else min(ask, self.end + new + 4 * NARROWEST)

    def _uncounted(self, answer: Window, seen: Hashes[int]) -> int | None:
        """How many lines the whole log holds beyond those that came out; None: it may be another log."""
        if not answer.whole or self.end is None or len(self.head) < HEAD or self.behind:
            return None
        return len(seen) - self.end if seen[:HEAD] == self.head else None

    def _reaches_back(self, seen: Hashes[int]) -> bool:
        """Whether the answer shows more lines than the longest block that is known to come again."""
        return not self.recurred or len(seen) >= min(self.recurred + NARROWEST, self.unbroken)

    def _joins_by_fewer(self, seen: Hashes[int], uncounted: int | None) -> int | None:
        """How many lines are new by the last few known lines alone; None: they tell nothing.

        With a count, the log is certainly the one that is known, and no more than those can be new.
        """
        fewer = self.unbroken // 2
        while fewer:
            place = locate(self.known, fewer, seen)
            counted = uncounted is not None and place.new <= uncounted
            if place.fit is Fit.SURE or (counted and place.fit in (Fit.REPEATS, Fit.WEAK)):
                return place.new
            fewer //= 2
        return None

    def _goes_on(self, seen: Hashes[int], place: Place) -> bool:
        """Whether the new lines only repeat what was repeated before: nothing is at stake but a count."""
        lines = self.known[-min(self.unbroken, RECURRING) :]
        period = last_period(lines)
        if not period:
            return False
        block = lines[-period:]
        if place.fit is Fit.NONE:  # all of it is new, and begins somewhere in the block
            return contains(block * (len(seen) // period + 2), seen)
        joined = block + seen[len(seen) - place.new :]
        return joined[period:] == joined[:-period]
