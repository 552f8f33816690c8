"""The known part of a log: hashes of the newest lines, their place, and how a reply joins them.

`Known` has the lines of one pod. It makes no decisions: `pod_log` decides whether a place is doubtful, and
what follows. `Together` has the lines of all pods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from ..models.logs import LogLine
from .overlap import Fit, Hashes, Place, hashes, last_period, locate
from .windows import Window

__all__ = ["MEMORY", "Known", "Together"]

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
                elif self._ends_like(seen[: self.end], 0):
                    return Place(Fit.SURE, behind), False, True
                elif self._ends_like(seen[: self.end - 1], 1) and self._grown(answer, behind + 1):
                    return Place(Fit.SURE, behind + 1), True, True
        place = locate(self.known, self.unbroken, seen, self.end, whole=answer.whole)
        if place.fit is Fit.SURE:
            return place, False, False
        if place.fit in (Fit.WEAK, Fit.NONE) and answer.hint == place.new:
            return Place(Fit.SURE, place.new), False, False
        if self.unbroken > 1 and self._may_have_grown(answer):
            longer = locate(self.known[:-1], self.unbroken - 1, seen, self.end, whole=answer.whole)
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

    def _ends_like(self, seen: Hashes[int], but: int) -> bool:
        """Return True if `seen` ends like the known lines without the last `but` of them."""
        known = self.known[len(self.known) - self.unbroken : len(self.known) - but]
        common = min(len(known), len(seen))
        return known[len(known) - common :] == seen[len(seen) - common :]

    def _is_older(self, seen: Hashes[int], by: int) -> bool:
        return by >= self.unbroken or self._ends_like(seen, by)

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


class Together:
    """The lines of all pods in the order of the replies.

    If the service mixes pods by time, this sequence shows each pod's new lines. That is only a hint for
    `pod_log`, which knows its pod better. It never decides a delivery alone.
    """

    def __init__(self) -> None:
        self._known: Hashes[int] = hashes(())
        self._unbroken = 0
        self._unjoined: Hashes[int] | None = None
        self._mixed = False  # the lines are ordered by time, not pod after pod
        self._pending: dict[str | None, int] = {}  # lines in `_known` that the pod has not delivered
        self._synced: set[str | None] = set()  # pods for which that number is known
        self._took: set[str | None] = set()  # pods that have delivered all lines of `_unjoined`

    def hints(
        self, lines: Sequence[LogLine], by_pod: Mapping[str | None, Collection[int]]
    ) -> dict[str | None, int]:
        """Return the number of new lines per pod, if the reply as a whole joins the earlier lines."""
        changes = sum(one.pod != other.pod for one, other in pairwise(lines))
        self._mixed = self._mixed or changes >= max(1, len(by_pod))
        seen = hashes([line.raw for line in lines])
        place = locate(self._known, self._unbroken, seen)
        if place.fit is not Fit.SURE:
            self._unjoined, self._took = seen, set()
            return {}
        self._unjoined = None
        first = len(seen) - place.new
        self._known.extend(seen[first:])
        self._unbroken += place.new
        self._trim()
        for pod, indices in by_pod.items():
            self._pending[pod] = self._pending.get(pod, 0) + sum(index >= first for index in indices)
        return {pod: self._pending[pod] for pod in by_pod.keys() & self._synced} if self._mixed else {}

    def delivered(self, pod: str | None, new: int, *, settled: bool) -> None:
        """Note the lines that a pod has delivered from the last reply; `settled`: it holds no line back."""
        if settled and self._unjoined is None:
            self._pending[pod] = 0
            self._synced.add(pod)
        elif new:
            self._synced.discard(pod)
        if settled:
            self._took.add(pod)

    def polled(self) -> None:
        """Note the end of a poll. If its last reply does not join, the lines begin anew with that reply."""
        if self._unjoined is not None:
            self._known, self._unbroken = self._unjoined, len(self._unjoined)
            self._unjoined = None
            self._pending.clear()
            self._synced = self._took
            self._trim()

    def _trim(self) -> None:
        del self._known[:-MEMORY]
        self._unbroken = min(self._unbroken, len(self._known))


def _alike(one: Hashes[int], other: Hashes[int]) -> int:
    """Return the number of lines at the end of both that are equal."""
    length = min(len(one), len(other))
    return next((n for n in range(length) if one[-1 - n] != other[-1 - n]), length)
