"""Whether an answer that did not fill its window is the whole log, or cut at a line too long to be shown.

The service ends a pod's answer before a line of over 64 KiB. A window of k lines that shows m of them has
k - m - 1 behind that line, unless it is wider than the log: other windows tell. Asks nothing itself.
"""

from __future__ import annotations

from enum import Enum

from .answer import WHOLE, WIDEST
from .overlap import Hashes, certain

__all__ = ["Found", "Probe"]


class Found(Enum):
    """What the windows have told."""

    WHOLE = "the log is as short as that"
    FILLED = "the window is filled now, as any other"
    BEHIND = "the newest lines behind the long one"
    ALL_BEHIND = "all that is behind the long one"
    NOTHING_BEHIND = "the long line is the last one"
    NOTHING = "not even that, after too many fetches"


class Probe:
    """The search that one short answer began. `joins`: its lines have come out, as far as they were new."""

    def __init__(self, asked: int, seen: Hashes[int], *, joins: bool) -> None:
        self.asked: int = asked
        self.joins: bool = joins
        self._seen: Hashes[int] = seen
        self._short_seen: Hashes[int] = seen[:0]  # what the last narrower window showed that was not filled
        self._cut: bool = False  # it is cut for sure
        self._filled: int = 0  # a window that the lines behind the long one fill
        self._ceiling: int = WHOLE  # one that they do not
        self._checked: bool = False  # that they are all there are was seen
        self._alike: bool = False  # a window of just as many lines showed the same

    def told(
        self, asked: int, seen: Hashes[int], *, behind: bool, joins: bool, full: int, last: bool
    ) -> Found | int:
        """What the answer `seen` to the window `asked` tells, or else the window to ask for next.

        Args:
            behind: all counting begins behind a long line already.
            joins: what was known to be behind it ends where this answer begins, or in it.
            full: lines of the widest answer of this poll that filled its window.
            last: no more can be asked.
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
            # Unless more came meanwhile: one line more must show nothing, for it begins with the long one.
            self._checked = True
            return len(seen) + 1
        return self._halve()

    def _again(self, asked: int, seen: Hashes[int], *, behind: bool, full: int, last: bool) -> Found | int:
        """The wide window once more: with the lines that the narrow one showed, if they are no older ones."""
        if len(seen) == asked:
            # By now there are as many behind the long line, if it is one.
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
        """A narrower window that was not filled, either."""
        if last:
            return Found.NOTHING
        if seen == self._seen and self._alike and asked == len(seen) + 1:
            return Found.WHOLE
        if seen == self._seen:
            self._cut, self._ceiling = True, asked
            return self._halve()
        if seen[: len(self._seen)] == self._seen:
            # The log has grown, where it would have been cut.
            self._seen, self.joins = seen, False
            return len(seen)
        if seen and seen == self._short_seen:
            # Another window, and the same lines: it is wider than the log, which is not the one from before.
            self._seen, self._cut, self._ceiling, self.joins = seen, False, asked, False
            return len(seen)
        self._short_seen = seen
        behind = asked - len(seen) - 1
        if not behind:
            return Found.NOTHING_BEHIND
        self._cut, self._ceiling = True, behind + 1
        return behind

    def _narrow(self, seen: Hashes[int]) -> Found | int:
        """A window of as many lines as were seen is filled: by the same ones, if they are the whole log."""
        if seen != self._seen:
            return self.asked
        if certain(seen) or len(seen) + 1 >= self.asked:
            return Found.WHOLE
        # Few lines, or common ones, may read like others: one more must not be there.
        self._alike = True
        return len(seen) + 1

    def _halve(self) -> int:
        """Between a window that is filled and one that shows what the widest does."""
        return max(1, (self._filled + min(self._ceiling, 4 * WIDEST)) // 2)
