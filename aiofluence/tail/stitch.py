"""Joins the replies of a log without a cursor: each line once and in order, or a `LogGap`.

Pure: no I/O, no clock, no tasks. `Stitch.take` gets each reply and returns what to deliver, what to request
next, and when. Failed fetches are not passed to it. One `pod_log.PodLog` per pod makes the decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from ..models.logs import GapReason, LogGap, LogLine
from .known import MEMORY, Together
from .pace import Pace
from .pod_log import NARROWEST, PodLog
from .windows import WHOLE, WIDEST, Verdict, Window

__all__ = ["Step", "Stitch"]

START = 1024
"""Minimum lines of the first window. It should show a repetition, or the beginning of a short log."""
YOUNG = 64
"""Lines up to which a log is fetched whole, because the place of each line is then certain."""
AHEAD = 256
"""Minimum lines of the window of such a log."""
SEARCH = 30.0
"""Seconds before the search for a pod that others may hide, doubled after each search without a result."""
PATIENCE = 40
"""Maximum fetches in one poll."""
PODS = 32
"""Maximum number of remembered pods."""

Pod: TypeAlias = str | None
"""The name of a pod; None if the lines have none."""
Placed: TypeAlias = tuple[int, int, LogLine | LogGap]
"""An item to deliver, after its sort key: the index of the line in the reply, and 0 for gaps, 1 for lines."""


@attrs.frozen
class Step:
    """The consequences of one reply.

    Attributes:
        items: items to deliver now, in order.
        ask: window of the next fetch; None for no limit.
        at_once: the next fetch belongs to this poll and decides something; otherwise it is the next poll.
        interval: seconds until the next poll.
    """

    items: tuple[LogLine | LogGap, ...]
    ask: int | None
    at_once: bool
    interval: float


class Stitch:
    """The tail of one container's log. `last`: number of existing lines to deliver first, per pod.

    Attributes:
        ask: window of the next fetch; None for no limit.
    """

    def __init__(self, last: int = 100) -> None:
        self._last = last
        self.ask: int | None = max(last, START)
        self._pods: dict[Pod, PodLog] = {}
        self._held: dict[Pod, tuple[tuple[LogLine, ...], Verdict]] = {}
        self._missing: dict[Pod, int] = {}  # number of successive polls that did not show the pod
        self._gone: set[Pod] = set()
        self._pace = Pace()
        self._each = False  # each pod certainly has a window of its own
        self._shared = False  # the window seems to count the lines of all pods together
        self._alone = True  # the replies of this poll show one pod and cannot hide another
        self._together = Together()
        self._begun = False
        self._whole = True  # the next poll of a young log fetches all lines
        self._search_pause, self._search_at = SEARCH, 0.0
        self._present: set[Pod] = set()  # pods in the last reply
        self._begin_poll()

    @property
    def interval(self) -> float:
        """Seconds until the next poll."""
        return self._pace.interval

    def take(
        self,
        lines: Sequence[LogLine],
        asked: int | None,
        now: float,
        *,
        ending: bool = False,
        limited: bool = False,
        numbered: int = 0,
    ) -> Step:
        """Take the reply to a fetch of window `asked` (None: the whole log) at `now` (seconds).

        `ending`: the log will not grow any more, so every question is decided, at any cost.
        `limited`: the service answers no wider window.
        `numbered`: widest window by number that was answered, if wider ones are refused; 0: none is refused.
        """
        regular = not self._fetches
        if regular:
            self._begin_poll()
        self._fetches += 1
        self._pace.came(lines, now)
        window = WHOLE if asked is None else asked
        by_pod: dict[Pod, list[int]] = {}
        pod: Pod = next((line.pod for line in lines if line.pod is not None), None)
        for index, line in enumerate(lines):
            # A line without a pod's name, among lines with one, is unreadable. It belongs to the pod before.
            pod = pod if line.pod is None else line.pod
            by_pod.setdefault(pod, []).append(index)
        self._name_pod(next(iter(by_pod), None))
        hints = self._together.hints(lines, by_pod) if len(self._pods) > 1 else {}
        self._each = self._each or len(lines) > window
        if regular or 0 < len(lines) < window:
            hiding = len(lines) >= window and bool(self._pods.keys() - by_pod.keys())
            self._alone = len(by_pod) == 1 and not hiding
        filled = len(by_pod) > 1 and len(lines) == window and not self._each
        self._shared = (self._shared or (filled and window >= NARROWEST)) and not self._each
        self._all_shown |= len(lines) < window
        for pod, sequence in self._pods.items():
            asking = sequence.probe is not None or not (sequence.begun or self._shared)
            if asking and window == sequence.ask:
                by_pod.setdefault(pod, [])  # the absence of lines is an answer for the search, too
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
                shared=self._shared,
                apart=self._each or self._alone,
                ending=ending,
                limited=limited,
                numbered=numbered,
            )
            placed, ask = self._take(pod, answer, lines, indices)
            items += placed
            wishes += [ask] * bool(ask)
        self._begun = True
        wishes += self._search_hidden(window, now, ending=ending) * (not hints)
        items += self._notice_missing(len(lines), window, regular=regular)
        if ending and not lines:
            self._missing = dict.fromkeys(self._pods, 1)
        items.sort(key=lambda item: item[:2])
        return self._step(tuple(item for _, _, item in items), wishes)

    def _name_pod(self, first: Pod) -> None:
        """Give unreadable lines so far, which name no pod, to the pod that the first readable line names."""
        if first is not None and first not in self._pods and None in self._pods:
            states: tuple[dict[Pod, Any], ...] = (self._pods, self._held, self._missing)
            for known in states:
                if None in known:
                    known[first] = known.pop(None)

    def _begin_poll(self) -> None:
        self._fetches: int = 0
        self._new: int = 0  # new lines of the pod with the most, without those before the tail began
        self._came: bool = False  # lines were delivered
        self._all_shown: bool = False  # a reply was not filled, so it hides no pod
        self._searched: set[Pod] = set()  # pods that this poll searches for
        for sequence in self._pods.values():
            sequence.begin_poll()

    def _take(
        self, pod: Pod, answer: Window, lines: Sequence[LogLine], indices: Sequence[int]
    ) -> tuple[list[Placed], int]:
        """Return the items that a reply adds for one pod (its lines: `indices`), and the next window or 0."""
        sequence = self._pods.setdefault(pod, PodLog(late=self._begun))
        was_begun = sequence.begun
        verdict = sequence.take(answer)
        if verdict is None:
            return [], sequence.ask
        new = verdict.new
        if sequence.begun and not was_begun and not sequence.late:
            new = min(new, self._last)
            sequence.last_delivered = new > 0
        self._new = max(self._new, verdict.new if was_begun else 0)
        if verdict.new and pod in self._searched:
            self._search_pause = SEARCH
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
        self._together.delivered(pod, verdict.new, settled=verdict.settled)
        count_only = verdict.count_only and not answer.ending
        if count_only and not self._pace.afford(min(verdict.ask, (sequence.end or MEMORY) + 64)):
            return placed, 0
        return placed, verdict.ask

    def finish(self) -> tuple[LogLine | LogGap, ...]:
        """Return the held lines after the log has ended, after a gap where they are not certain."""
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
        """Return the held lines of a pod, after a gap if they are not certain."""
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
        self._together.polled()
        holding = any(lines for lines, _ in self._held.values())
        need = self._pace.polled(self._new, open=bool(self._held), holding=holding)
        # A young log is fetched whole. While it is quiet, only every second poll does that: a narrow window
        # also shows lines that a line too long to be shown would hide.
        self._whole = self._came or not self._whole
        young = YOUNG if self._whole else 0
        need += max((pod.overlap(young) for pod in self._pods.values()), default=NARROWEST)
        ask = min(WIDEST, -(-need // 8) * 8)
        if (self._pods or self._whole) and all(pod.is_young(young) for pod in self._pods.values()):
            ask = max(AHEAD, ask)  # wide windows of short logs cost nothing
        return self._next(items, ask, at_once=False)

    def _search_hidden(self, window: int, now: float, *, ending: bool) -> list[int]:
        """Return the window that would show a hidden pod: a shared window that is filled may hide one."""
        hidden = self._pods.keys() - self._present - self._gone
        if not hidden or self._all_shown or self._each:
            return []
        if ending:
            return [window * 4 if window < WIDEST else WHOLE]
        if now < self._search_at or window >= WIDEST:
            return []
        self._search_at, self._search_pause = now + self._search_pause, self._search_pause * 2
        self._searched = hidden
        return [WIDEST]

    def _notice_missing(self, count: int, window: int, *, regular: bool) -> list[Placed]:
        """Return the gaps of pods that are no longer listed."""
        for pod in self._present:
            self._missing.pop(pod, None)
            self._gone.discard(pod)
        if not self._present or count == window:
            return []  # an empty reply is a transient fault, and a filled window may hide a pod
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
