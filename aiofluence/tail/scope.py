"""What `last=N` counts, which nobody says: the lines of each pod, or those of all pods together.

Found out once, when a tail first sees several pods, by narrow windows. Nothing here reads what lines say.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..models.logs import LogLine
from .pod_log import NARROWEST

__all__ = ["Scope"]


class Scope:
    """What is known: `each` pod has a window of its own, one is `shared` by all, or neither is known."""

    def __init__(self) -> None:
        self.each: bool = False
        self.shared: bool = False
        self._chances: int = 3  # polls in which narrow windows may be asked for
        self._asked: bool = False  # in this poll they were
        self._narrow: list[int] = []  # those that are still to be asked for
        self._put_aside: int | None = None  # the window whose answer waits for them
        self._but_first: list[str] = []  # its lines but the first: what a shared window of one less shows
        self._alone: bool = True  # the answers of this poll show one pod, and can hide none

    @property
    def asking(self) -> bool:
        """Whether the next answer is for `told`."""
        return bool(self._narrow)

    def doubts(self, lines: Sequence[LogLine], asked: int | None) -> bool:
        """Whether to ask for the window of one line first, and put this answer aside."""
        # With more lines than asked for, each pod has a window of its own.
        self.each = self.each or (asked is not None and len(lines) > asked)
        known = self.each or self.shared
        if known or self._asked or not self._chances or len({line.pod for line in lines} - {None}) < 2:
            return False
        self._asked = True
        self._chances -= 1
        self._narrow = [len(lines) - 1, 1] if len(lines) > 2 else [1]
        self._put_aside, self._but_first = asked, [line.raw for line in lines[1:]]
        return True

    def told(self, lines: Sequence[LogLine]) -> int | None:
        """Take in the answer to a narrow window; gives the window to ask for next."""
        window = self._narrow.pop()
        if len(lines) > window:
            self.each, self._narrow = True, []
        elif self._narrow:
            return self._narrow[-1]
        else:
            self.shared = window > 1 and [line.raw for line in lines] == self._but_first
        return self._put_aside

    def see(
        self, pods: Collection[str | None], count: int, window: int, *, hiding: bool, regular: bool
    ) -> None:
        """Notice what an answer of `count` lines of these pods shows. `hiding`: other pods are known."""
        if 0 < count < window:
            self._alone = len(pods) == 1
        elif regular:
            self._alone = len(pods) == 1 and not hiding
        filled = len(pods) > 1 and count == window >= NARROWEST
        self.shared = (self.shared or filled) and not self.each

    def polled(self) -> None:
        """A poll has ended."""
        self._asked = False

    @property
    def apart(self) -> bool:
        """Whether what a pod shows of a narrower window is all that it would show alone."""
        return self.each or self._alone
