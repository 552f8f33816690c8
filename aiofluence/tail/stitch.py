"""Stitches the answers of a log without a cursor together: each line once and in order, or a `LogGap`.

Pure: no I/O, no clock, no tasks. `Stitch.take` is told each answer and says what to deliver, what to ask
next, and when. A fetch that failed is simply not told. One `sequence` for each pod does the thinking.
"""

from __future__ import annotations

from collections.abc import Sequence as Lines
from typing import TypeAlias

import attrs

from ..models.logs import GapReason, LogGap, LogLine
from .answer import WHOLE, WIDEST, Verdict, Window
from .known import MEMORY
from .pace import Pace
from .pod_log import NARROWEST, Sequence
from .scope import Scope
from .together import Together

__all__ = ["Step", "Stitch"]

START = 1024
"""Lines of the first window at least: a log that repeats itself should show it, a short one its beginning."""
YOUNG = 64
"""Lines up to which a log is fetched whole, for then the place of a line is certain."""
AHEAD = 256
"""Lines of the window of such a log at least."""
LOOK = 30.0
"""Seconds until a pod is looked for that others may hide; twice as long each time that it brought nothing."""
PATIENCE = 40
"""Fetches in one poll at most."""
PODS = 32
"""Pods that are remembered at most."""

Pod: TypeAlias = str | None
"""The name of a pod; None where lines carry none."""
Placed: TypeAlias = tuple[int, int, LogLine | LogGap]
"""What comes out, and before it what it is sorted by: the index of the line in the answer, marks first."""


@attrs.frozen
class Step:
    """What follows from one answer.

    Attributes:
        items: to deliver now, in order.
        ask: the window of the next fetch; None: without a limit.
        at_once: that fetch belongs to this poll and decides something; otherwise it is the next poll.
        interval: seconds until the next poll.
    """

    items: tuple[LogLine | LogGap, ...]
    ask: int | None
    at_once: bool
    interval: float


class Stitch:
    """The tail of one container's log. `last`: how many of the lines already there are wanted, per pod.

    Attributes:
        ask: the window of the next fetch; None: without a limit.
    """

    def __init__(self, last: int = 100) -> None:
        self._last = last
        self.ask: int | None = max(last, START)
        self._pods: dict[Pod, Sequence] = {}
        self._held: dict[Pod, tuple[tuple[LogLine, ...], Verdict]] = {}
        self._missing: dict[Pod, int] = {}  # polls in a row that did not show it
        self._gone: set[Pod] = set()
        self._pace = Pace()
        self._scope = Scope()
        self._together = Together()
        self._begun = False
        self._whole = True  # the next poll of a young log is for all of it
        self._look, self._look_at = LOOK, 0.0
        self._sought: set[Pod] = set()  # pods that were looked for in this poll
        # Of the poll under way:
        self._fetches = 0
        self._new = 0  # lines that came, of the pod with the most; not those that were there before
        self._came = False  # lines came out
        self._present: set[Pod] = set()  # pods that the last answer showed
        self._all_shown = False  # an answer was not filled, and can hide no pod

    @property
    def interval(self) -> float:
        """Seconds until the next poll."""
        return self._pace.interval

    def take(
        self,
        lines: Lines[LogLine],
        asked: int | None,
        now: float,
        *,
        ending: bool = False,
        limited: bool = False,
        numbered: int = 0,
    ) -> Step:
        """Take in the answer to a fetch of window `asked` (None: the whole log), come at `now` (seconds).

        `ending`: the log will not grow any more, so that everything is decided whatever it costs.
        `limited`: the service answers no wider window.
        `numbered`: the widest window by number that was answered, where wider ones are refused; 0: none is.
        """
        if self._scope.asking:
            return self._next((), self._scope.told(lines), at_once=True)
        regular = not self._fetches
        if regular and self._scope.doubts(lines, asked):
            return self._next((), 1, at_once=True)
        self._fetches += 1
        if regular:
            self._begin_poll()
        self._pace.came(lines, now)
        window = WHOLE if asked is None else asked
        by_pod: dict[Pod, list[int]] = {}
        pod: Pod = next((line.pod for line in lines if line.pod is not None), None)
        for index, line in enumerate(lines):
            # A line that names no pod among others that do is one that cannot be read.
            pod = pod if line.pod is None else line.pod
            by_pod.setdefault(pod, []).append(index)
        several = len(self._pods) > 1 or len(by_pod) > 1
        hints = self._together.hints(lines, by_pod) if several else {}
        hiding = bool(self._pods.keys() - by_pod.keys())
        self._scope.see(by_pod, len(lines), window, hiding=hiding, regular=regular)
        filled = len(by_pod) > 1 and len(lines) == window and not self._scope.each
        self._all_shown = self._all_shown or len(lines) < window
        for pod, sequence in self._pods.items():
            if sequence.probe is not None and window == sequence.ask:
                by_pod.setdefault(pod, [])  # that it shows nothing says something
        self._present = set(by_pod)
        items: list[Placed] = []
        wishes: list[int] = []
        for pod, indices in by_pod.items():
            answer = Window(
                lines=[lines[index].raw for index in indices],
                asked=window,
                whole=window == WHOLE or (not filled and len(indices) != window),
                now=now,
                prefix=len(lines[indices[-1]].raw) - len(lines[indices[-1]].text) if indices else 0,
                hint=hints.get(pod),
                shared=self._scope.shared,
                apart=self._scope.apart,
                ending=ending,
                limited=limited,
                numbered=numbered,
            )
            placed, ask = self._take(pod, answer, lines, indices)
            items += placed
            wishes += [ask] * bool(ask)
        self._begun = True
        wishes += self._look_for_hidden(window, now, ending=ending) * (not hints)
        items += self._notice_missing(len(lines), window, regular=regular)
        if ending and not lines:
            self._missing = dict.fromkeys(self._pods, 1)
        items.sort(key=lambda item: item[:2])
        return self._step(tuple(item for _, _, item in items), wishes)

    def _begin_poll(self) -> None:
        self._new, self._came, self._all_shown = 0, False, False
        self._sought.clear()
        for sequence in self._pods.values():
            sequence.begin_poll()

    def _take(
        self, pod: Pod, answer: Window, lines: Lines[LogLine], indices: Lines[int]
    ) -> tuple[list[Placed], int]:
        """What an answer adds of one pod, whose lines are at `indices`; and the window it wants, or 0."""
        sequence = self._pods.setdefault(pod, Sequence(late=self._begun))
        was_begun = sequence.begun
        verdict = sequence.take(answer)
        if verdict is None:
            self._together.delivered(pod, all_of_it=False)
            return [], sequence.ask
        new = verdict.new
        if sequence.begun and not was_begun and not sequence.late:
            new = min(new, self._last)
            sequence.last_delivered = new > 0
        self._new = max(self._new, verdict.new if was_begun else 0)
        if verdict.new and pod in self._sought:
            self._look = LOOK
        placed: list[Placed] = []
        start = len(indices) - new
        if verdict.gap is not None and (verdict.settled or verdict.new):
            place = indices[start] if new else len(lines)
            placed.append((place, 0, LogGap(verdict.gap, verdict.at_least, pod)))
        for number in range(start, len(indices)):
            line = lines[indices[number]]
            grown = verdict.grown and number == start
            placed.append((indices[number], 1, attrs.evolve(line, grown=True) if grown else line))
        if verdict.settled:
            self._held.pop(pod, None)
        else:
            held = indices[len(indices) - verdict.held :]
            self._held[pod] = (tuple(lines[index] for index in held), verdict)
        self._together.delivered(pod, all_of_it=verdict.settled)
        count_only = verdict.count_only and not answer.ending
        if count_only and not self._pace.afford(min(verdict.ask, (sequence.end or MEMORY) + 64)):
            return placed, 0
        return placed, verdict.ask

    def finish(self) -> tuple[LogLine | LogGap, ...]:
        """The log has ended: what was held back, behind a mark where it cannot be sure."""
        items: list[LogLine | LogGap] = []
        for pod in tuple(self._held):
            items += self._let_go(pod)
        for pod, sequence in self._pods.items():
            if sequence.mark is not None:
                items.append(LogGap(sequence.mark, 0, pod))
                sequence.mark = None
        items += [LogGap(GapReason.POD_GONE, 0, pod) for pod in self._missing if pod not in self._gone]
        self._missing.clear()
        return tuple(items)

    def _let_go(self, pod: Pod) -> list[LogLine | LogGap]:
        """What was held back of a pod, behind a mark where it cannot be sure."""
        lines, verdict = self._held.pop(pod, ((), Verdict()))
        mark = [] if verdict.doubt is None else [LogGap(verdict.doubt, 0, pod)]
        return [*mark, *(attrs.evolve(line, grown=verdict.grown) for line in lines)]

    # --- what to ask next ---------------------------------------------------------------------------------

    def _next(self, items: tuple[LogLine | LogGap, ...], ask: int | None, *, at_once: bool) -> Step:
        self.ask = ask
        return Step(items, ask, at_once, self.interval)

    def _step(self, items: tuple[LogLine | LogGap, ...], wishes: list[int]) -> Step:
        size = sum(len(item.raw) for item in items if isinstance(item, LogLine))
        self._pace.brought(size)
        self._came = self._came or size > 0
        if wishes and self._fetches < PATIENCE:
            widest = max(wishes)
            return self._next(items, None if widest >= WHOLE else widest, at_once=True)
        self._fetches = 0
        self._scope.polled()
        self._together.polled(self._pods.keys() - self._present)
        holding = any(lines for lines, _ in self._held.values())
        need = self._pace.polled(self._new, open=bool(self._held), holding=holding)
        # A young log is fetched whole. While it is quiet, only every second time: a narrow window also shows
        # what a line too long to be shown would hide.
        self._whole = self._came or not self._whole
        young = YOUNG if self._whole else 0
        need += max((pod.overlap(young) for pod in self._pods.values()), default=NARROWEST)
        ask = min(WIDEST, -(-need // 8) * 8)
        if all(pod.is_young(young) for pod in self._pods.values()):
            ask = max(AHEAD, ask)  # wide windows of short logs cost nothing
        return self._next(items, ask, at_once=False)

    def _look_for_hidden(self, window: int, now: float, *, ending: bool) -> list[int]:
        """A shared window that is filled may hide a pod: the window that would show it."""
        hidden = self._pods.keys() - self._present - self._gone
        if not hidden or self._all_shown or self._scope.each:
            return []
        if ending:
            return [window * 4 if window < WIDEST else WHOLE]
        if now < self._look_at or window >= WIDEST:
            return []
        self._look_at, self._look = now + self._look, self._look * 2
        self._sought = hidden
        return [WIDEST]

    def _notice_missing(self, count: int, window: int, *, regular: bool) -> list[Placed]:
        """The marks of pods that are no longer listed."""
        for pod in self._present:
            self._missing.pop(pod, None)
            self._gone.discard(pod)
        if not self._present or count == window:
            return []  # nothing at all is a hiccup; a window that is filled may hide a pod
        marks: list[Placed] = []
        for pod in self._pods:
            if pod in self._present or pod in self._gone:
                continue
            self._missing[pod] = self._missing.get(pod, 0) + regular
            if self._missing[pod] >= 3:
                self._gone.add(pod)
                marks += [(count, 0, item) for item in self._let_go(pod)]
                marks.append((count, 0, LogGap(GapReason.POD_GONE, 0, pod)))
        while len(self._pods) > PODS and self._gone:
            pod = next(pod for pod in self._pods if pod in self._gone)
            self._gone.discard(pod)
            self._missing.pop(pod, None)
            del self._pods[pod]
        return marks
