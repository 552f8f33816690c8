"""The data types between `stitch` and `pod_log`: the window of one pod, and the verdict on it.

`stitch` builds a `Window` from a reply. `pod_log` returns a `Verdict`.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..models.logs import GapReason

__all__ = ["WHOLE", "WIDEST", "Verdict", "Window"]

WIDEST = 4096
"""Lines of the widest window that is requested by number."""

WHOLE = 1 << 40
"""The window without a limit: a request without `last`."""


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
