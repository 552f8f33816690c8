"""A small second implementation of a log server, and a judge that compares a tail with the true log.

Every line carries its number, which no stitcher can see. The judge can therefore count losses, repeats and
marks even if all lines have the same text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from random import Random

import attrs

from aiofluence import GapReason, LogGap, LogLine

TOO_LONG = 65536


@attrs.frozen
class Numbered(LogLine):
    """A log line with its number within its pod."""

    number: int = attrs.field(default=0, eq=False)
    at: float = attrs.field(default=0.0, eq=False)  # time of writing


@attrs.define
class Pod:
    """The log of one pod. `lines` has the true lines by number, in their present form."""

    name: str | None
    lines: list[Numbered] = attrs.Factory(list)
    base: int = 0  # number of the first line that the server still has
    dropped: bool = False  # the server lost some lines, or cannot show them
    gone: bool = False

    def line(self, text: str, number: int, at: float = 0.0) -> Numbered:
        raw = text if self.name is None else f"[{self.name}] {text}"
        return Numbered(raw, self.name, text, number=number, at=at)


@attrs.define
class Store:
    """The log server.

    Attributes:
        mode: scope of `last`. `pod` means each pod, `global` all lines, `none` ignores `last`.
        order: order of the lines in an answer. `fixed` and `shuffled` have one block per pod. `raced` mixes
            the lines of all pods anew in each answer. `mixed` has the order of writing, and applies `last` to
            all lines.
        clamp: maximum lines of an answer, which the answer does not mention.
        clamp_whole: `clamp` applies to a request without `last`, too.
        refused: narrowest numbered window that is refused.
        whole_refused: a request without `last` is refused.
    """

    mode: str = "pod"
    order: str = "fixed"
    clamp: int | None = None
    clamp_whole: bool = True
    refused: int | None = None
    whole_refused: bool = False
    ring: int | None = None
    cut: bool = False
    clock: float = 0.0
    rng: Random = attrs.Factory(lambda: Random(0))
    pods: dict[str | None, Pod] = attrs.Factory(dict)
    _written: list[tuple[str | None, int]] = attrs.Factory(list)
    _snapshots: list[tuple[float, dict[str | None, tuple[int, int]]]] = attrs.Factory(list)

    def write(self, text: str, pod: str | None = "web-1") -> None:
        log = self.pods.setdefault(pod, Pod(pod))
        log.lines.append(log.line(text, len(log.lines), self.clock))
        if self.order == "mixed":
            self._written.append((pod, len(log.lines) - 1))
        if self.cut and len(text) > TOO_LONG:
            log.dropped = True
        if self.ring is not None and len(log.lines) - log.base > self.ring:
            log.base = len(log.lines) - self.ring
            log.dropped = True

    def grow(self, more: str, pod: str | None = "web-1") -> None:
        log = self.pods.get(pod)
        if log is None or len(log.lines) <= log.base or not log.lines[-1].text:
            self.write(more, pod)  # an empty line counts as finished
        else:
            log.lines[-1] = log.line(log.lines[-1].text + more, len(log.lines) - 1, log.lines[-1].at)

    def rotate(self, keep: int = 0, pod: str | None = "web-1") -> None:
        """Drop all lines except the newest `keep`. A restart is a rotation that keeps none."""
        log = self.pods.get(pod)
        if log is not None and len(log.lines) - log.base > keep:
            log.base = len(log.lines) - keep
            log.dropped = True

    def remove(self, pod: str | None) -> None:
        log = self.pods.get(pod)
        if log is not None:
            log.gone = log.dropped = True

    def snapshot(self, now: float) -> None:
        """Remember the present state, for stale answers."""
        spans = {name: (log.base, len(log.lines)) for name, log in self.pods.items() if not log.gone}
        self._snapshots.append((now, spans))
        del self._snapshots[:-8]

    def fetch(self, asked: int | None, *, stale: int = 0) -> list[LogLine]:
        """Return the answer as it was `stale` snapshots ago."""
        if stale and self._snapshots:
            spans = self._snapshots[max(0, len(self._snapshots) - stale)][1]
        else:
            spans = {name: (log.base, len(log.lines)) for name, log in self.pods.items() if not log.gone}
        window = None if self.mode == "none" else asked
        self._note_hidden()
        if self.clamp is not None and (window is not None or self.clamp_whole):
            window = self.clamp if window is None else min(window, self.clamp)
        if self.order == "mixed":
            rows = [
                self.pods[name].lines[number]
                for name, number in self._written
                if name in spans and spans[name][0] <= number < spans[name][1]
            ]
        else:
            names = list(spans)
            if self.order == "shuffled":
                self.rng.shuffle(names)
            rows = []
            for name in names:
                first, end = spans[name]
                if self.mode == "pod" and window is not None:
                    first = max(first, end - window)
                rows += self._shown(name, first, end)
        if self.order == "raced":
            rows = self._race(rows)
        if (self.mode == "global" or self.order == "mixed") and window is not None:
            rows = rows[-window:] if window else []
        return list(rows)

    def refuses(self, asked: int | None) -> bool:
        """Return True if the window is refused."""
        if asked is None:
            return self.whole_refused
        return self.refused is not None and asked >= self.refused

    def _note_hidden(self) -> None:
        """Note a loss if no window can show all lines: the first lines are lost, as in a ring."""
        most = [self.clamp] if self.clamp is not None and (self.clamp_whole or self.whole_refused) else []
        most += [self.refused] if self.refused is not None and self.whole_refused else []
        for log in self.pods.values() if most else ():
            log.dropped |= len(log.lines) - log.base >= min(most) - 1

    def _race(self, rows: list[Numbered]) -> list[Numbered]:
        """Mix the lines of all pods at random. The lines of each pod stay in order."""
        queues = {pod: iter([row for row in rows if row.pod == pod]) for pod in {row.pod for row in rows}}
        names = [row.pod for row in rows]
        self.rng.shuffle(names)
        return [next(queues[name]) for name in names]

    def _shown(self, name: str | None, first: int, end: int) -> list[Numbered]:
        lines = self.pods[name].lines[first:end]
        if self.cut:
            lines = list(itertools.takewhile(lambda line: len(line.text) <= TOO_LONG, lines))
        return lines


@attrs.define
class Counted(Store):
    """A log server that counts its answers."""

    fetches: int = 0

    def fetch(self, asked: int | None, *, stale: int = 0) -> list[LogLine]:
        self.fetches += 1
        return super().fetch(asked, stale=stale)


@attrs.define
class Judgement:
    """Comparison of a tail with the true log, in lines and marks."""

    delivered: int = 0
    lost: int = 0  # with or without a mark
    silent: int = 0  # lost without a mark
    late: int = 0  # lost, with a mark some lines later, when a wider window showed the loss
    twice: int = 0
    disorder: int = 0
    marks: int = 0
    needless: int = 0  # marks without any loss at the server
    too_sure: int = 0  # marks whose `at_least` is larger than the loss
    unfinished: int = 0  # lines of which only a part was delivered
    wrong: list[str] = attrs.Factory(list)


class Judge:
    """Judge of the items that a tail delivers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next: dict[str | None, int] = {}
        self._text: dict[tuple[str | None, int], str] = {}
        self._marks: dict[str | None, list[tuple[LogGap, int]]] = {}
        self._start: dict[str | None, int] = {}
        self._unmarked: dict[str | None, int] = {}  # lost lines that still lack a mark
        self._lost_by: dict[str | None, list[tuple[int, int]]] = {}  # per mark: lines read so far, `at_least`
        self._results: dict[str | None, Judgement] = {}
        self._read: dict[str | None, list[str]] = {}  # texts in the order of delivery

    def see(self, items: Iterable[LogLine | LogGap]) -> list[Numbered]:
        """Take delivered items. Return the lines that are new."""
        fresh = []
        for item in items:
            if isinstance(item, LogGap):
                self._mark(item)
            elif self._line(item):
                assert isinstance(item, Numbered)
                fresh.append(item)
        return fresh

    def _of(self, pod: str | None) -> Judgement:
        return self._results.setdefault(pod, Judgement())

    def _mark(self, gap: LogGap) -> None:
        result = self._of(gap.pod)
        result.marks += 1
        place = len(self._read.get(gap.pod, ()))
        self._lost_by.setdefault(gap.pod, []).append((place, gap.at_least))
        unmarked = self._unmarked.pop(gap.pod, 0) if gap.reason is GapReason.REPEATS else 0
        result.late += unmarked
        if not 0 < gap.at_least <= unmarked:  # else the mark counts only earlier losses
            self._marks.setdefault(gap.pod, []).append((gap, unmarked))

    def _line(self, line: LogLine) -> bool:
        assert isinstance(line, Numbered)
        pod, result = line.pod, self._of(line.pod)
        if pod not in self._next:
            self._next[pod] = self._start[pod] = line.number
        number = self._number(line)
        if not line.grown:
            self._read.setdefault(pod, []).append(line.text)
        marks = self._marks.pop(pod, [])
        before = self._text.get((pod, number))
        self._text[pod, number] = line.text
        if line.grown:
            if before is None or not line.text.startswith(before) or number != self._next[pod] - 1:
                result.wrong.append(f"grown without reason: {pod} {number}")
                result.twice += 1
            return False
        if before is not None and marks and before != line.text:
            pass  # the line grew during a rotation: a fetch cannot distinguish it from a new one
        elif before is not None:
            result.twice += 1
            result.wrong.append(f"twice: {pod} {number}")
        elif number < self._next[pod]:
            result.disorder += 1
            result.wrong.append(f"out of order: {pod} {number}")
        missed = max(0, number - self._next[pod])
        if before is None:
            self._lose(pod, missed, marks)
        result.delivered += before is None
        self._next[pod] = max(self._next[pod], number + 1)
        return before is None

    def _number(self, line: Numbered) -> int:
        """Return the line's number for a reader, who sees only texts: the next number, if its text is equal.

        After a mark, lines may be missing, so the number is that of the fetched line.
        """
        due = self._next[line.pod]
        if line.grown and line.text.startswith(self._text.get((line.pod, due - 1), line.text + "?")):
            return due - 1
        if self._marks.get(line.pod):
            return line.number
        lines = self._store.pods[line.pod].lines
        return due if due < len(lines) and lines[due].text == line.text else line.number

    def _lose(self, pod: str | None, missed: int, marks: list[tuple[LogGap, int]]) -> None:
        """Judge `missed` lines behind `marks`, each with the number of earlier lost lines that it covers."""
        result = self._of(pod)
        result.lost += missed
        covered = sum(late for _, late in marks)
        if missed and not marks:
            self._unmarked[pod] = self._unmarked.get(pod, 0) + missed
            result.wrong.append(f"no mark at once: {missed} of {pod} before {self._next[pod] + missed}")
        if marks and not (missed or covered or self._store.pods[pod].dropped):
            result.needless += len(marks)
            result.wrong.append(f"needless: {marks}")
        if sum(mark.at_least for mark, _ in marks) > missed + covered:
            result.too_sure += 1
            result.wrong.append(f"too sure: {marks}, {missed} lost")

    def _is_counted(self, log: Pod) -> bool:
        """Return True if the delivered lines are the true log without the lines that the marks count.

        No reader can see which of several equal lines were lost. The tested alignment loses lines as early as
        possible. Each mark must follow at least as many losses as this mark and earlier marks count.
        """
        read = self._read.get(log.name, [])
        truth = [line.text for line in log.lines[self._start.get(log.name, 0) :]]
        place, places = len(truth), [len(truth)]  # index of each delivered line, from the last to the first
        for text in reversed(read):
            place -= 1
            while place >= 0 and truth[place] != text:
                place -= 1
            if place < 0:
                return False
            places.append(place)
        places.reverse()
        counted = 0
        for count, at_least in self._lost_by.get(log.name, ()):
            counted += at_least
            if places[count] - count < counted:
                return False
        return 0 < counted == len(truth) - len(read)

    def finish(self, items: Iterable[LogLine | LogGap], wanted: Iterable[str | None] = ()) -> Judgement:
        """Judge the whole tail after its end. All lines of the pods in `wanted` should have arrived."""
        self.see(items)
        for name, log in self._store.pods.items():
            if name not in self._next:
                self._next[name] = 0 if name in set(wanted) else len(log.lines)
            self._lose(name, len(log.lines) - self._next[name], self._marks.pop(name, []))
            result = self._of(name)
            result.silent = self._unmarked.get(name, 0)
            if self._is_counted(log):
                # No reader can see which of several equal lines were lost.
                result.silent = result.too_sure = result.needless = result.twice = result.disorder = 0
            if self._store.mode == "global" or self._store.order == "mixed":
                continue  # a line that grew may have been outside the window
            for number in range(self._start.get(name, 0), self._next[name]):
                text = self._text.get((name, number))
                result.unfinished += text is not None and text != log.lines[number].text
        total = Judgement()
        for result in self._results.values():
            for field in attrs.fields(Judgement):
                setattr(total, field.name, getattr(total, field.name) + getattr(result, field.name))
        return total
