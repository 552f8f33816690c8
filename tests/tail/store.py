"""A small second opinion of a log server that knows the truth, and a judge of what a tail made of it.

Every line carries its number, which no stitcher can see: so the judge counts losses, repeats and marks even
where all lines read the same.
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
    at: float = attrs.field(default=0.0, eq=False)  # when it was written


@attrs.define
class Pod:
    """One pod's log. `lines` is the truth, by number, as each stands at the moment."""

    name: str | None
    lines: list[Numbered] = attrs.Factory(list)
    base: int = 0  # number of the first line that the server still has
    dropped: bool = False  # the server lost, or cannot show, something of it
    gone: bool = False

    def line(self, text: str, number: int, at: float = 0.0) -> Numbered:
        raw = text if self.name is None else f"[{self.name}] {text}"
        return Numbered(raw, self.name, text, number=number, at=at)


@attrs.define
class Store:
    """The server. `mode`: `pod` applies `last` to each pod, `global` to all lines, `none` not at all.

    `order`: pods `fixed` one behind the other, `shuffled`, or `raced`, their lines mixed anew in each answer;
    or lines `mixed` in the order they were written, to which `last` applies as a whole.

    Attributes:
        clamp: lines that an answer holds at most, without a word; `clamp_whole`: one to no `last`, too.
        refused: narrowest window by number that is refused; `whole_refused`: no `last` is, too.
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
            self.write(more, pod)  # an empty line is a finished one
        else:
            log.lines[-1] = log.line(log.lines[-1].text + more, len(log.lines) - 1, log.lines[-1].at)

    def rotate(self, keep: int = 0, pod: str | None = "web-1") -> None:
        """Only the newest `keep` lines stay. A restart is a rotation that keeps none."""
        log = self.pods.get(pod)
        if log is not None and len(log.lines) - log.base > keep:
            log.base = len(log.lines) - keep
            log.dropped = True

    def remove(self, pod: str | None) -> None:
        log = self.pods.get(pod)
        if log is not None:
            log.gone = log.dropped = True

    def snapshot(self, now: float) -> None:
        """Remember this moment, for stale answers."""
        spans = {name: (log.base, len(log.lines)) for name, log in self.pods.items() if not log.gone}
        self._snapshots.append((now, spans))
        del self._snapshots[:-8]

    def fetch(self, asked: int | None, *, stale: int = 0) -> list[LogLine]:
        """The answer, as it was `stale` snapshots ago."""
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
        """Whether the window is refused."""
        if asked is None:
            return self.whole_refused
        return self.refused is not None and asked >= self.refused

    def _note_hidden(self) -> None:
        """No window shows more than so many lines: those before are lost, as by a ring."""
        most = [self.clamp] if self.clamp is not None and (self.clamp_whole or self.whole_refused) else []
        most += [self.refused] if self.refused is not None and self.whole_refused else []
        for log in self.pods.values() if most else ():
            log.dropped |= len(log.lines) - log.base >= min(most) - 1

    def _race(self, rows: list[Numbered]) -> list[Numbered]:
        """The lines of all pods, mixed at random; those of each pod stay in order."""
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
class Judgement:
    """What a tail made of the truth, in lines, and in marks."""

    delivered: int = 0
    lost: int = 0  # behind a mark, or not
    silent: int = 0  # lost, and no mark
    late: int = 0  # lost, and the mark came some lines later, when a wider window showed the loss
    twice: int = 0
    disorder: int = 0
    marks: int = 0
    needless: int = 0  # though the server lost nothing
    too_sure: int = 0  # `at_least` says more than was lost
    unfinished: int = 0  # lines of which only a part was delivered
    wrong: list[str] = attrs.Factory(list)


class Judge:
    """Watches a tail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next: dict[str | None, int] = {}
        self._text: dict[tuple[str | None, int], str] = {}
        self._marks: dict[str | None, list[tuple[LogGap, int]]] = {}
        self._start: dict[str | None, int] = {}
        self._unmarked: dict[str | None, int] = {}  # lost lines that still lack a mark
        self._lost_by: dict[str | None, list[tuple[int, int]]] = {}  # per mark: lines read, its count
        self._results: dict[str | None, Judgement] = {}
        self._read: dict[str | None, list[str]] = {}  # texts in the order of delivery

    def see(self, items: Iterable[LogLine | LogGap]) -> list[Numbered]:
        """Take in delivered items; return the lines that are new."""
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
        if not 0 < gap.at_least <= unmarked:  # else it counts what was lost before, and nothing here
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
            pass  # it grew while the log was rotated: no fetch can tell it from a new one, and a mark says so
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
        """Which line it is to a reader, who sees texts alone: the next one due, if that reads the same.

        A mark says that lines may be missing here, so that behind it the line is the one that was fetched.
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
        """Decide if the truth in order, without the lines that the marks count, is what a reader has.

        Which of several equal lines were lost, no reader can see. The alignment that is tried loses lines
        as early as it can: each mark must stand behind as many losses as it and the marks before it count.
        """
        read = self._read.get(log.name, [])
        truth = [line.text for line in log.lines[self._start.get(log.name, 0) :]]
        place, places = len(truth), [len(truth)]  # of each line that was read, from the last one back
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
        """The tail has ended; `wanted` are pods of which all lines should have come."""
        self.see(items)
        for name, log in self._store.pods.items():
            if name not in self._next:
                self._next[name] = 0 if name in set(wanted) else len(log.lines)
            self._lose(name, len(log.lines) - self._next[name], self._marks.pop(name, []))
            result = self._of(name)
            result.silent = self._unmarked.get(name, 0)
            if self._is_counted(log):
                # Which of several equal lines were lost, no reader can see.
                result.silent = result.too_sure = result.needless = result.twice = result.disorder = 0
            if self._store.mode == "global" or self._store.order == "mixed":
                continue  # a line that grew may have been out of sight
            for number in range(self._start.get(name, 0), self._next[name]):
                text = self._text.get((name, number))
                result.unfinished += text is not None and text != log.lines[number].text
        total = Judgement()
        for result in self._results.values():
            for field in attrs.fields(Judgement):
                setattr(total, field.name, getattr(total, field.name) + getattr(result, field.name))
        return total
