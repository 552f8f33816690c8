"""The window of one pod in a reply, the verdict on it, and the windows that the service answers.

`stitch` builds a `Window` from a reply, and `pod_log` returns a `Verdict`. The service may refuse `last`
above a limit, or a request without `last`. `Windows` learns from refusals, so that no refused request is
repeated for ever. This module makes no requests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from ..errors import DecodeError, FluenceError, InvalidRequestError, RefusedError, ReplyError
from ..models.logs import GapReason

__all__ = ["WHOLE", "WIDEST", "Verdict", "Window", "Windows"]

WIDEST = 4096
"""Lines of the widest window that is requested by number."""

WHOLE = 1 << 40
"""The window without a limit: a request without `last`."""


_NARROW = 16
"""Lines of a window that is refused only for reasons unrelated to windows."""
_UNLIMITED = 1 << 17
"""Maximum lines requested by number if a request without `last` is refused."""
_FORGET = 600.0
"""Seconds before a refused window is tried again, doubled each time. Gateways also refuse at random."""
_SIZES = frozenset({413, 414, 416})
"""HTTP statuses about the size of a request or a reply."""


@attrs.frozen
class Window:
    """The lines of one pod in one reply, with the circumstances of the request.

    Attributes:
        lines: the pod's lines.
        asked: size of the requested window in lines; `WHOLE` without a limit.
        whole: the window was not filled. The lines are the whole log, unless a line was too long to show.
        now: time of the reply in seconds.
        prefix: number of characters before the text of the last line, which are the pod's name.
        hint: number of new lines, concluded from the reply as a whole; None if it permits no conclusion.
        shared: the window counts the lines of all pods together, so that a single pod rarely fills it.
        apart: the pod certainly has a window of its own.
        ending: the log will not grow any more.
        limited: the service answers no wider window.
        numbered: widest window by number that was answered, if the service refuses wider ones; 0: none is.
    """

    lines: Sequence[str]
    asked: int
    whole: bool
    now: float
    prefix: int = 0
    hint: int | None = None
    shared: bool = False
    apart: bool = True
    ending: bool = False
    limited: bool = False
    numbered: int = 0


@attrs.frozen
class Verdict:
    """The conclusions from one window of one pod.

    Attributes:
        new: number of lines at the end of the window to deliver now.
        gap: reason of the `LogGap` to deliver before them; None for no gap.
        at_least: number of lines that are certainly lost at the gap.
        grown: the first new line is the complete form of the line that was delivered last.
        ask: the window that would decide more; 0 for none.
        count_only: `ask` would only count repeated lines, so it is requested only within the budget.
        settled: no line is held back.
        held: number of lines at the end of the window to deliver if the log ends in this state.
        doubt: reason of the `LogGap` to deliver before the held lines; None for no gap.
    """

    new: int = 0
    gap: GapReason | None = None
    at_least: int = 0
    grown: bool = False
    ask: int = 0
    count_only: bool = False
    settled: bool = True
    held: int = 0
    doubt: GapReason | None = None


class Windows:
    """The knowledge of one tail about the windows of one container."""

    def __init__(self) -> None:
        self._answered = 0  # widest window by number that was answered
        self._refused = _UNLIMITED  # narrowest window that was refused
        self._whole = True  # requests without `last` are answered
        self._try_again = math.inf
        self._pause = _FORGET
        self._in_doubt = False  # no reply has arrived since the last refusal

    def nearest(self, wanted: int | None, now: float) -> int | None:
        """Return the window to request in place of `wanted`. None means a request without `last`."""
        if now >= self._try_again:
            self._forget()
        if wanted is not None and wanted < self._refused:
            return wanted
        if self._whole:
            return None
        if self._in_doubt:
            return self._answered or _NARROW  # the reply shows if the refusal was about the window
        return max(self._answered, (self._answered + self._refused) // 2)

    def is_widest(self, asked: int | None) -> bool:
        """Return True if the service answers no wider window than `asked`."""
        return asked is not None and not self._whole and asked >= self._refused - 1

    @property
    def numbered(self) -> int:
        """The widest window by number that was answered, if wider ones are refused; 0: none is refused."""
        return (self._answered or _NARROW) if self._refused < _UNLIMITED else 0

    def answered(self, asked: int | None) -> None:
        """Note a reply."""
        self._in_doubt = False
        if asked is not None:
            self._answered = max(self._answered, asked)

    def refuses(self, asked: int | None, error: FluenceError, now: float) -> bool:
        """Return True if `error` refuses the window `asked`, so that another window may succeed at once."""
        fine = asked is not None and asked <= max(self._answered, _NARROW)
        if fine or not _is_about_window(error):
            if self._in_doubt:
                self._forget()  # the service refuses every window, so the refusal has another cause
            return False
        if self._try_again == math.inf:
            self._try_again, self._pause = now + self._pause, self._pause * 2
        self._in_doubt = True
        if asked is None:
            self._whole = False
        else:
            self._refused = asked
        return True

    def _forget(self) -> None:
        self._refused, self._whole, self._try_again, self._in_doubt = _UNLIMITED, True, math.inf, False


def _is_about_window(error: FluenceError) -> bool:
    if isinstance(error, DecodeError):
        return not getattr(error, "status", 0)  # the reply was too large to be read
    if isinstance(error, ReplyError) and error.status in _SIZES:
        return True
    return isinstance(error, InvalidRequestError) or type(error) is RefusedError
