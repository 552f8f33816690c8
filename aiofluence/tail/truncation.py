"""The search that distinguishes a short log from a reply that is cut at a line too long to be shown.

The service ends a pod's reply before a line of over 64 KiB. If a window of k lines shows m, then k - m - 1
lines follow the long line, unless the window is wider than the log. Narrower windows decide which is true.
This module makes no requests.
"""

from __future__ import annotations

from enum import Enum

from .overlap import Hashes, certain
from .windows import WHOLE, WIDEST

__all__ = ["Found", "Probe"]


class Found(Enum):
    """The result of a search."""

    WHOLE = "the short reply is the whole log"
    FILLED = "the window is filled now, like any other"
    BEHIND = "the newest lines after the long line"
    ALL_BEHIND = "all lines after the long line"
    NOTHING_BEHIND = "the long line is the last line"
    NOTHING = "no result after too many fetches"


class Probe:
    """The search that one short reply began. `joins`: the new lines of that reply are already delivered."""

    def __init__(self, asked: int, seen: Hashes[int], *, joins: bool) -> None:
        self.asked: int = asked
        self.joins: bool = joins
        self._seen: Hashes[int] = seen
        self._short_seen: Hashes[int] = seen[:0]  # lines of the last narrower window that was not filled
        self._cut: bool = False  # the reply is certainly cut
        self._filled: int = 0  # a window that the lines after the long line fill
        self._ceiling: int = WHOLE  # a window that those lines do not fill
        self._checked: bool = False  # a window of one line more was requested, as a check
        self._alike: bool = False  # a window of as many lines as were seen showed the same lines

    def told(
        self, asked: int, seen: Hashes[int], *, behind: bool, joins: bool, full: int, last: bool
    ) -> Found | int:
        """Return the result after the reply `seen` to the window `asked`, or the window to request next.

        Args:
            behind: all counting already begins after a long line.
            joins: the known lines after the long line end at or within this reply.
            full: number of lines of the widest reply of this poll that filled its window.
            last: no further request is possible.
        """
        if asked >= self.asked:
            return self._again(asked, seen, behind=behind, full=full, last=last)
        if len(seen) < asked:
            return self._short(asked, seen, last=last)
        if seen == self._seen or not (self._cut or joins):
            return self._narrow(seen)
        more_came = len(seen) >= self._ceiling
        self._filled = len(seen)
        all_of_it = self._ceiling - len(seen) <= 1
        if joins or more_came or last:
            return Found.BEHIND
        if all_of_it and self._checked:
            return Found.ALL_BEHIND
        if all_of_it:
            # One line more must show nothing: it begins at the long line, unless new lines have arrived.
            self._checked = True
            return len(seen) + 1
        return self._halve()

    def _again(self, asked: int, seen: Hashes[int], *, behind: bool, full: int, last: bool) -> Found | int:
        """Judge the repeated wide window. It confirms the narrow window if it begins with its lines."""
        if len(seen) == asked:
            # By now, the lines after the long line, if there is one, fill the window.
            return Found.BEHIND if self._cut or behind else Found.FILLED
        if last:
            return Found.WHOLE
        if seen == self._seen:
            self._cut, self._ceiling = True, asked
            return max(1, len(seen), full)
        if seen[: len(self._seen)] != self._seen:
            self._seen, self.joins = seen, False
            return max(1, len(seen))
        return Found.WHOLE

    def _short(self, asked: int, seen: Hashes[int], *, last: bool) -> Found | int:
        """Judge a narrower window that was not filled either."""
        if last:
            return Found.NOTHING
        if seen == self._seen and self._alike and asked == len(seen) + 1:
            return Found.WHOLE
        if seen == self._seen:
            self._cut, self._ceiling = True, asked
            return self._halve()
        if seen[: len(self._seen)] == self._seen:
            # The log has grown at the place where a cut reply would end.
            self._seen, self.joins = seen, False
            return len(seen)
        if seen and seen == self._short_seen:
            # Another window shows the same lines, so it is wider than the log. The log is a new one.
            self._seen, self._cut, self._ceiling, self.joins = seen, False, asked, False
            return len(seen)
        self._short_seen = seen
        behind = asked - len(seen) - 1
        if not behind:
            return Found.NOTHING_BEHIND
        self._cut, self._ceiling = True, behind + 1
        return behind

    def _narrow(self, seen: Hashes[int]) -> Found | int:
        """Judge a filled window of as many lines as were seen: the same lines if they are the whole log."""
        if seen != self._seen:
            return self.asked
        if certain(seen) or len(seen) + 1 >= self.asked:
            return Found.WHOLE
        # Few or common lines may equal others by chance. A window of one line more must not be filled.
        self._alike = True
        return len(seen) + 1

    def _halve(self) -> int:
        """Return a window between one that is filled and one that shows the same lines as the widest."""
        return max(1, (self._filled + min(self._ceiling, 4 * WIDEST)) // 2)
