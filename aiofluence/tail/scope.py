"""The meaning of `last=N`, which the service does not document: N lines of each pod, or of all pods together.

A tail finds out once, by narrow windows, when it first sees several pods. The text of lines is not used.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..models.logs import LogLine
from .pod_log import NARROWEST

__all__ = ["Scope"]


class Scope:
    """The known scope: `each` pod has its own window, all pods have a `shared` one, or neither is known."""

    def __init__(self) -> None:
        self.each: bool = False
        self.shared: bool = False
        self._chances: int = 3  # polls that may still request narrow windows
        self._asked: bool = False  # this poll has requested them
        self._narrow: list[int] = []  # narrow windows that are still to be requested
        self._put_aside: int | None = None  # the window whose reply waits for them
        self._but_first: list[str] = []  # its lines without the first, as a shared window of one less shows
        self._alone: bool = True  # the replies of this poll show one pod and cannot hide another

    @property
    def asking(self) -> bool:
        """True if the next reply is for `told`."""
        return bool(self._narrow)

    def doubts(self, lines: Sequence[LogLine], asked: int | None) -> bool:
        """Return True if a window of one line must be requested first, and this reply put aside."""
        # A reply with more lines than requested proves that each pod has a window of its own.
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
        """Take the reply to a narrow window, and return the window to request next."""
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
        """Note what a reply of `count` lines of these pods shows. `hiding`: other pods are known."""
        if 0 < count < window:
            self._alone = len(pods) == 1
        elif regular:
            self._alone = len(pods) == 1 and not hiding
        filled = len(pods) > 1 and count == window >= NARROWEST
        self.shared = (self.shared or filled) and not self.each

    def polled(self) -> None:
        """Note the end of a poll."""
        self._asked = False

    @property
    def apart(self) -> bool:
        """True if a narrower window shows each pod in full, as if the pod were alone."""
        return self.each or self._alone
