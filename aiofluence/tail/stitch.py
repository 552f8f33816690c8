"""Stitches the answers of a log without a cursor together: each line once and in order, or a `LogGap`.

Pure: no I/O, no clock, no tasks. `Stitch.take` is told each answer and says what to deliver, what to ask
next, and when. A fetch that failed is simply not told. One `sequence` for each pod does the thinking.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence as Lines
from itertools import pairwise

import attrs

from ..models.output import GapReason, LogGap, LogLine
from .answer import WHOLE, WIDEST, Answer, Verdict
from .known import MEMORY
from .overlap import Fit, Hashes, hashes, locate
from .sequence import NARROWEST, Sequence

__all__ = ["Step", "Stitch"]

START = 256
"""The first window at least: a log that repeats itself should show it, a short one show its beginning."""
SHORTEST = 1.5
"""Seconds between polls while lines come."""
LONGEST = 15.0
"""Seconds between polls of a quiet log."""
SLOWER = 1.5
HOLDING = 3.0
"""Seconds between polls at most while new lines are held back."""
ALLOWANCE = 128.0
"""Bytes a second that may be spent on counting repeats, beside `EARNED` times what the log itself brings."""
EARNED = 9
AMPLE = 1.5
"""A window has room for so many times the lines that are expected."""
MINUTE = 60.0
"""Seconds over which at least it is averaged how much the log brings."""
YOUNG = 64
"""Lines up to which a log is fetched whole, for then the place of a line is certain."""
LOOK = 30.0
"""Seconds until a pod is looked for that others may hide; twice as long each time."""
PATIENCE = 40
"""Fetches in one poll at most."""
PODS = 32
"""Pods that are remembered at most."""


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
    """The tail of one container's log. `last`: how many of the lines already there are wanted, per pod."""

    def __init__(self, last: int = 100) -> None:
        self._last = last
        self.ask: int | None = max(last, START)
        self.interval: float = SHORTEST
        self._pods: dict[str | None, Sequence] = {}
        self._held: dict[str | None, tuple[tuple[LogLine, ...], Verdict]] = {}
        self._missing: dict[str | None, int] = {}
        self._gone: set[str | None] = set()
        self._begun = False
        self._in_poll = False
        self._now: float | None = None
        self._poll_new = 0
        self._polled: float | None = None
        self._lively = False  # the last poll that left nothing open brought something
        self._rates: deque[float] = deque(maxlen=5)
        self._credit = 16384.0
        self._brought = 0  # bytes of the log that came out so far
        self._since = 0.0
        self._line_bytes = 80.0
        self._together: Hashes[int] = hashes(())  # the lines of all pods in the order of the answers
        self._unbroken = 0
        self._unjoined: Hashes[int] | None = None
        self._present: set[str | None] = set()
        self._behind: set[str | None] = set()  # pods that have not delivered all that `_together` has
        self._whole = True  # the next poll of a young log is for all of it
        self._alone = True  # this poll's first answer showed one pod, and can hide none
        self._counting: list[int] = []  # windows to be asked for that tell what windows count
        self._put_aside: int | None = 0  # the window whose answer waits for that; 0: none in this poll
        self._but_first: list[str] = []  # its lines but the first: what a window of one line less would show
        self._chances = 3  # polls in which it may be asked
        self._all_shown = False  # an answer of this poll was not filled, and can hide none
        self._each = False  # each pod has a window of its own
        self._shared = False  # the window counts the lines of all pods together
        self._look, self._look_at = LOOK, 0.0
        self._fetches = 0
        self._interleaved = False  # the pods' lines come in the order of time, not one pod behind the other

    def take(self, lines: Lines[LogLine], asked: int | None, now: float, *, ending: bool = False) -> Step:
        """Take in the answer to a fetch of window `asked` (None: the whole log), come at `now` (seconds).

        `ending`: the log will not grow any more, so that everything is decided whatever it costs.
        """
        if self._counting:
            return self._count(lines)
        if self._asks_what_counts(lines, asked):
            return Step((), 1, True, self.interval)
        regular = not self._in_poll
        if regular:
            self._poll_new = 0
            for sequence in self._pods.values():
                sequence.begin_poll()
        self._earn(lines, now)
        window = WHOLE if asked is None else asked
        first = not self._begun
        self._begun = True
        by_pod: dict[str | None, list[int]] = {}
        for index, line in enumerate(lines):
            by_pod.setdefault(line.pod, []).append(index)
        hints = self._hints(lines, by_pod) if len(self._pods) > 1 or len(by_pod) > 1 else {}
        items: list[tuple[int, int, LogLine | LogGap]] = []
        wishes: list[int] = []
        self._present = set(by_pod)
        filled = len(by_pod) > 1 and len(lines) == window and not self._each
        if 0 < len(lines) < window:
            self._alone = len(by_pod) == 1
        elif regular:
            self._alone = len(by_pod) == 1 and not self._pods.keys() - by_pod.keys()
        for pod, sequence in self._pods.items():
            if sequence.probe is not None and window == sequence.ask:
                by_pod.setdefault(pod, [])  # that it shows nothing says something
        self._shared = (self._shared or (filled and window >= NARROWEST)) and not self._each
        for pod, indices in by_pod.items():
            pod_lines = [lines[index] for index in indices]
            if pod not in self._pods:
                self._pods[pod] = Sequence(late=not first)
            sequence = self._pods[pod]
            whole = window == WHOLE or (not filled and len(indices) != window)
            was_begun = sequence.begun
            texts = [line.raw for line in pod_lines]
            apart = self._each or self._alone
            answer = Answer(texts, window, whole, now, hints.get(pod), self._shared, apart, ending)
            verdict = sequence.take(answer)
            if verdict is None:
                self._behind.add(pod)
                if sequence.ask:
                    wishes.append(sequence.ask)
                continue
            new = verdict.new
            if sequence.begun and not was_begun and not sequence.late:
                new = min(new, self._last)
                sequence.last_delivered = new > 0
            self._poll_new = max(self._poll_new, verdict.new if was_begun else 0)
            start = len(indices) - new
            if verdict.settled or verdict.new:
                if verdict.gap is not None:
                    place = indices[start] if new else len(lines)
                    items.append((place, 0, LogGap(verdict.gap, verdict.at_least, pod)))
                for number in range(start, len(indices)):
                    line = pod_lines[number]
                    if verdict.grown and number == start:
                        line = attrs.evolve(line, grown=True)
                    items.append((indices[number], 1, line))
            if verdict.settled:
                self._held.pop(pod, None)
                self._behind.discard(pod)
            else:
                held = tuple(pod_lines[len(pod_lines) - verdict.held :]) if verdict.held else ()
                self._held[pod] = (held, verdict)
                self._behind.add(pod)
            if verdict.ask and (not verdict.dear or ending or self._afford(verdict.ask, sequence)):
                wishes.append(verdict.ask)
        hidden = [pod for pod in self._pods if pod not in by_pod and pod not in self._gone]
        self._all_shown = (self._all_shown and not regular) or len(lines) < window
        if hidden and not (self._all_shown or self._each or hints):
            # A window that is filled may hide a pod.
            if ending:
                wishes.append(window * 4 if window < WIDEST else WHOLE)
            elif now >= self._look_at and window < WIDEST:
                wishes.append(WIDEST)
                self._look_at, self._look = now + self._look, self._look * 2
        self._notice_missing(by_pod, lines, window, items, regular=regular)
        if ending and not lines:
            self._missing = dict.fromkeys(self._pods, 1)
        items.sort(key=lambda item: item[:2])
        return self._step(tuple(item for _, _, item in items), wishes, now)

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

    def _let_go(self, pod: str | None) -> list[LogLine | LogGap]:
        """What was held back of a pod, behind a mark where it cannot be sure."""
        lines, verdict = self._held.pop(pod, ((), Verdict()))
        mark = [] if verdict.doubt is None else [LogGap(verdict.doubt, 0, pod)]
        return [*mark, *(attrs.evolve(line, grown=verdict.grown) for line in lines)]

    # --- when and how much --------------------------------------------------------------------------------

    def _earn(self, lines: Lines[LogLine], now: float) -> None:
        if self._now is not None:
            flow = self._brought / max(MINUTE, now - self._since)
            self._credit = min(self._credit + (ALLOWANCE + EARNED * flow) * (now - self._now), 8e6)
        else:
            self._since = now
        self._now = now
        if lines:
            mean = sum(len(line.raw) for line in lines) / len(lines) + 4
            self._line_bytes += (mean - self._line_bytes) * 0.3

    def _afford(self, ask: int, sequence: Sequence) -> bool:
        expected = min(ask, (sequence.end or MEMORY) + 64)
        cost = expected * self._line_bytes
        if cost > self._credit:
            return False
        self._credit -= cost
        return True

    def _step(self, items: tuple[LogLine | LogGap, ...], wishes: list[int], now: float) -> Step:
        self._brought += sum(len(item.raw) for item in items if isinstance(item, LogLine))
        self._fetches = self._fetches + 1 if self._in_poll else 1
        if wishes and self._fetches < PATIENCE:
            self._in_poll = True
            widest = max(wishes)
            self.ask = None if widest >= WHOLE else widest
            return Step(items, self.ask, True, self.interval)
        self._in_poll = False
        self._put_aside = 0
        if self._unjoined is not None:
            self._remember(self._unjoined, None)
            self._unjoined = None
            self._behind.update(pod for pod in self._pods if pod not in self._present)
        if not self._held:  # else it is not known how many came
            self._lively = bool(self._poll_new)
            if self._polled is not None and now > self._polled:
                self._rates.append(self._poll_new / (now - self._polled))
            self._polled = now
        if self._poll_new:
            self.interval = SHORTEST
        else:
            holding = any(lines or self._lively for lines, _ in self._held.values())
            self.interval = min(HOLDING if holding else LONGEST, self.interval * SLOWER)
        rate = statistics.median(self._rates) if self._rates else 0.0
        if rate * AMPLE * self.interval > WIDEST / 2:
            self.interval = 1.0
        need = int(rate * self.interval * AMPLE)
        # A young log is fetched whole. While it is quiet, only every second time: a narrow window also shows
        # what a line too long to be shown would hide.
        self._whole = bool(self._poll_new) or not self._whole
        young = YOUNG if self._whole else 0
        need += max((pod.overlap(young) for pod in self._pods.values()), default=NARROWEST)
        self.ask = min(WIDEST, -(-need // 8) * 8)
        if all(pod.is_young(young) for pod in self._pods.values()):
            self.ask = max(START, self.ask)  # wide windows of short logs cost nothing
        return Step(items, self.ask, False, self.interval)

    # --- several pods -------------------------------------------------------------------------------------

    def _asks_what_counts(self, lines: Lines[LogLine], asked: int | None) -> bool:
        """Whether first to find out, this answer put aside, what windows count: a pod's lines, or all."""
        # With more lines than asked for, each pod has a window of its own.
        self._each = self._each or (asked is not None and len(lines) > asked)
        known = self._each or self._shared or not self._chances or self._in_poll
        if known or self._put_aside != 0 or len({line.pod for line in lines}) < 2:
            return False
        self._chances -= 1
        self._counting = [len(lines) - 1, 1] if len(lines) > 2 else [1]
        self._put_aside, self._but_first = asked, [line.raw for line in lines[1:]]
        return True

    def _count(self, lines: Lines[LogLine]) -> Step:
        """The answer to one of the narrow windows."""
        window = self._counting.pop()
        if len(lines) > window:
            self._each, self._counting = True, []
        elif self._counting:
            return Step((), self._counting[-1], True, self.interval)
        else:
            self._shared = window > 1 and [line.raw for line in lines] == self._but_first
        return Step((), self._put_aside, True, self.interval)

    def _hints(self, lines: Lines[LogLine], by_pod: dict[str | None, list[int]]) -> dict[str | None, int]:
        """How many lines of each pod are new, if the answer as a whole joins what all pods wrote before."""
        changes = sum(one.pod != other.pod for one, other in pairwise(lines))
        self._interleaved = self._interleaved or changes >= max(1, len(by_pod))
        seen = hashes([line.raw for line in lines])
        place = locate(self._together, self._unbroken, seen)
        self._unjoined = seen if place.fit is not Fit.SURE else None
        if place.fit is not Fit.SURE:
            return {}
        self._remember(seen, place.new)
        if not self._interleaved:
            return {}
        first = len(lines) - place.new
        return {
            pod: sum(index >= first for index in indices)
            for pod, indices in by_pod.items()
            if pod not in self._behind
        }

    def _remember(self, seen: Hashes[int], new: int | None) -> None:
        if new is None:
            self._together, self._unbroken = seen[-MEMORY:], len(seen)
        else:
            self._together.extend(seen[len(seen) - new :])
            self._unbroken += new
        del self._together[:-MEMORY]
        self._unbroken = min(self._unbroken, len(self._together))

    def _notice_missing(
        self,
        by_pod: dict[str | None, list[int]],
        lines: Lines[LogLine],
        window: int,
        items: list[tuple[int, int, LogLine | LogGap]],
        *,
        regular: bool,
    ) -> None:
        for pod in by_pod:
            self._missing.pop(pod, None)
            self._gone.discard(pod)
        if not by_pod or len(lines) == window:
            return  # nothing at all is a hiccup; a window that is filled may hide a pod
        for pod in self._pods:
            if pod in by_pod or pod in self._gone:
                continue
            self._missing[pod] = self._missing.get(pod, 0) + regular
            if self._missing[pod] >= 3:
                self._gone.add(pod)
                items += [(len(lines), 0, item) for item in self._let_go(pod)]
                items.append((len(lines), 0, LogGap(GapReason.POD_GONE, 0, pod)))
        while len(self._pods) > PODS and self._gone:
            pod = next(pod for pod in self._pods if pod in self._gone)
            self._gone.discard(pod)
            self._missing.pop(pod, None)
            del self._pods[pod]
