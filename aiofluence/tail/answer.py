"""What one fetch showed of one pod, and what follows from it.

The words between `stitch`, which fetches are told to, and `sequence`, which decides; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..models.logs import GapReason

__all__ = ["WHOLE", "WIDEST", "Verdict", "Window"]

WIDEST = 4096
"""The widest window asked for by number."""

WHOLE = 1 << 40
"""Stands for the window without a limit."""


@attrs.frozen
class Window:
    """What one fetch showed of one pod.

    Attributes:
        lines: the pod's lines.
        asked: the window; `WHOLE` without a limit.
        whole: the window was not filled, so this may be all there is. (Or a line was too long to show.)
        now: seconds.
        prefix: characters before the text of the last line, its pod's name.
        hint: how many lines are new by the evidence of the answer as a whole; None when it has none.
        shared: the window counts the lines of all pods together, so that a pod rarely fills it.
        apart: this pod has a window of its own for sure.
        ending: the log will not grow any more.
        limited: no wider window is answered.
        numbered: the widest window by number that was answered, where wider ones are refused; 0: none is.
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
    """What follows from an answer for one pod.

    Attributes:
        new: how many of its last lines come out now.
        gap: a mark to put before them.
        at_least: lines certainly lost at the mark.
        grown: the first of the new lines is the whole of the line delivered last.
        ask: the window that would decide more; 0 for none.
        count_only: it tells nothing but a count: only when the budget allows.
        settled: nothing is held back.
        held: how many of the last lines come out if the log ends like this.
        doubt: the mark to put before those.
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
