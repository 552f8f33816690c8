"""The known part of one pod's log: hashes of its newest lines, their place, and how a reply joins them.

This module makes no decisions. `pod_log` decides whether a place is doubtful, and what follows.
"""

from __future__ import annotations

from .answer import Window
from .overlap import Fit, Hashes, Place, hashes, last_period, locate

__all__ = ["MEMORY", "Known"]

MEMORY = 8192
"""Number of lines of a pod whose hashes are kept."""

HEAD = 8
"""Number of lines that identify the beginning of a log."""


class Known:
    """The newest lines of one pod's log."""

    def __init__(self) -> None:
        self.known: Hashes[int] = hashes(())
        self.unbroken: int = 0  # number of lines at the end of `known` that have no gap between them
        self.end: int | None = None  # number of the last known line in the log as shown; None: not known
        self.head: Hashes[int] = hashes(())
        self.last_length: int = 0  # of the last known line, to see it grow; 0: empty or no line
        self.last_delivered: bool = True
        self.recurred: int = 0  # number of lines of the longest block that was seen to recur as a whole

    def _place(self, answer: Window, seen: Hashes[int]) -> tuple[Place, bool, bool]:
        """Return the place of the answer, if the last known line has grown, and if the place is absolute."""
        length = len(seen)
        if answer.whole and self.end is not None:
            behind = length - self.end
            head = self.head[: max(0, min(HEAD, self.end - 1, length))]
            if seen[: len(head)] == head:
                if behind < 0:
                    if self._is_older(seen, -behind):
                        return Place(Fit.STALE, 0), False, False
                elif self._ends_like(seen[: self.end]):
                    return Place(Fit.SURE, behind), False, True
                elif self._ends_like(seen[: self.end - 1], but=1) and self._grown(answer, behind + 1):
                    return Place(Fit.SURE, behind + 1), True, True
        place = locate(self.known, self.unbroken, seen, self.end, whole=answer.whole)
        if place.fit is Fit.SURE:
            return place, False, False
        if place.fit in (Fit.WEAK, Fit.NONE) and answer.hint == place.new:
            return Place(Fit.SURE, place.new), False, False
        if place.fit is not Fit.STALE and self.unbroken > 1 and self._may_have_grown(answer):
            before = self.end and self.end - 1
            longer = locate(self.known[:-1], self.unbroken - 1, seen, before, whole=answer.whole)
            better = place.fit is Fit.NONE or longer.new < place.new
            joins = longer.fit is Fit.SURE or (better and longer.fit in (Fit.REPEATS, Fit.WEAK))
            if joins and longer.new and self._grown(answer, longer.new):
                return longer, True, False
        if place.fit is Fit.NONE and self.unbroken > 1:
            # The first line of the window may be cut.
            without_first = locate(self.known, self.unbroken, seen[1:], self.end)
            if without_first.fit is Fit.SURE:
                return without_first, False, False
        return place, False, False

    def _ends_like(self, seen: Hashes[int], but: int = 0) -> bool:
        """Return True if `seen` ends like the known lines without the last `but` of them."""
        known = self.known[len(self.known) - self.unbroken : len(self.known) - but]
        common = min(len(known), len(seen))
        return known[len(known) - common :] == seen[len(seen) - common :]

    def _is_older(self, seen: Hashes[int], by: int) -> bool:
        return by >= self.unbroken or self._ends_like(seen, but=by)

    def _may_have_grown(self, answer: Window) -> bool:
        """Return True if any line begins with the last known line and is longer."""
        return any(self._is_more(line) for line in answer.lines)

    def _is_more(self, line: str) -> bool:
        length = self.last_length  # an empty line is a finished one
        return bool(length) and len(line) > length and hash(line[:length]) == self.known[-1]

    def _grown(self, answer: Window, new: int) -> bool:
        """Return True if the first of the new lines begins with the last known line and is longer."""
        return self._is_more(answer.lines[len(answer.lines) - new])

    def _deliver(self, answer: Window, seen: Hashes[int], new: int, *, anew: bool = False) -> None:
        """Note that the last `new` lines of the answer are delivered. `anew`: a gap may precede them."""
        length = len(seen)
        if new:
            again = _alike(self.known, seen)
            if again > self.recurred and not last_period(seen[-again:]):
                self.recurred = min(again, MEMORY)
            length_of_last = len(answer.lines[-1])
            self.last_length = length_of_last if length_of_last > answer.prefix else 0
            self.last_delivered = True
        if anew:
            del self.known[len(self.known) - min(self.unbroken, length - new) :]
            self.known.extend(seen)
            self.unbroken = length if answer.whole else max(1, length - 1)  # the first line may be cut
        else:
            self.known.extend(seen[length - new :])
            self.unbroken += new
        if length - 1 > len(self.known):
            self.known = seen[1:]
            self.unbroken = length - 1
        del self.known[:-MEMORY]
        self.unbroken = min(self.unbroken, len(self.known))
        if answer.whole:
            self.end, self.head = length, seen[:HEAD]
        elif anew:
            self.end = None
        elif self.end is not None:
            self.end += new

    def _count_from(self, end: int | None, head: Hashes[int] | None = None) -> None:
        """Note that the log now starts elsewhere, `end` lines before the last known line; None: not known.

        `head` is its first lines, if they were seen.
        """
        self.end, self.head = end, hashes(()) if head is None else head

    def _break(self) -> None:
        """Note that the next lines do not continue the last known line in the form in which it was seen."""
        self.unbroken, self.head = 0, hashes(())

    def _forget_last(self) -> None:
        """Forget the last known line, which was incomplete. Its complete form is delivered next."""
        del self.known[-1]
        self.unbroken -= 1
        if self.end is not None:
            self.end -= 1
            del self.head[self.end :]


def _alike(one: Hashes[int], other: Hashes[int]) -> int:
    """Return the number of lines at the end of both that are equal."""
    length = min(len(one), len(other))
    return next((n for n in range(length) if one[-1 - n] != other[-1 - n]), length)
