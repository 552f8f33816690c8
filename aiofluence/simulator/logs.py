"""The log store: what each pod printed, what of it the cluster still has, and what an answer shows.

A pure object: it knows neither a simulator nor a clock, and every second is the caller's. What was
ever printed stays readable beside what is shown, so that a test can tell a loss from a mistake.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile
from math import inf
from random import Random
from typing import Literal

from .events import ClusterOptions, PodName


class PodLog:
    """What one pod has printed. Seconds given to its methods must not go back.

    Attributes:
        name: of the pod.
        lines: the truth: every line it ever printed, also those that the cluster has dropped.
        gone: the second from which the cluster shows nothing of it any more.
        begun: its container has been started at least once.
    """

    def __init__(self, name: PodName, seed: int = 0, interval: float | None = None) -> None:
        self.name = name
        self.lines: list[str] = []
        self.gone: float = inf
        self.begun: bool = False
        self._times = array("d")  # when each line began
        self._files: list[tuple[float, int]] = [(-inf, 0)]  # when a new file began, and with which line
        self._open = False  # the last line has not ended yet
        self._growth: dict[int, list[tuple[float, int]]] = {}  # how long such a line was, and since when
        self._rng = Random(seed)  # its own: the text must not depend on what else is drawn, and when
        self._interval = interval
        self._next: float | None = None
        self._until = inf
        self._script = _training_run(self._rng)

    # What happens to it

    def start(self, at: float) -> None:
        """Begin to print generated lines, if it has an interval for them."""
        self.begun = True
        if self._interval is not None:
            self._next = at

    def stop(self, at: float) -> None:
        """Print what is due by second `at`, which may be to come, and nothing any more."""
        self._until = min(self._until, at)

    def pause(self, at: float) -> None:
        """Print what is due by second `at`, and nothing more until the next `start`."""
        self.advance(at)
        self._next = None

    def advance(self, now: float) -> None:
        """Print the generated lines that are due by `now`."""
        if self._interval is None or self._next is None:
            return
        now = min(now, self._until)
        while self._next <= now:
            self._open = False
            self._write(next(self._script), self._next)
            self._next += self._interval * self._rng.uniform(0.5, 1.5)

    def print(self, text: str, at: float, end: Literal["\n", ""] = "\n") -> None:
        """Append by hand, behind everything that was due; each newline ends a line.

        With an empty `end` the last line has not ended: it is shown as it is, and the next call goes
        on with it.
        """
        self.advance(at)
        *whole, rest = f"{text}{end}".split("\n")
        for line in whole:
            self._write(line, at)
            self._open = False
        if rest:
            self._write(rest, at)
            self._open = True

    def rotate(self, at: float) -> None:
        """Begin a new file: the lines so far are kept, but not shown again."""
        self.advance(at)
        self._open = False
        self._files.append((at, len(self.lines)))

    def restart(self, at: float) -> None:
        """The container starts again in this pod: a new file, and the generated text from its start."""
        self.rotate(at)
        self._script = _training_run(self._rng)
        if self._next is not None:
            self._next = at

    def _write(self, text: str, at: float) -> None:
        if not self._open:
            self.lines.append(text)
            self._times.append(at)
            return
        place = len(self.lines) - 1
        sizes = self._growth.setdefault(place, [(self._times[-1], len(self.lines[-1]))])
        self.lines[-1] += text
        sizes.append((at, len(self.lines[-1])))

    # What there is to see

    def kept(self, at: float, options: ClusterOptions) -> range:
        """The places in `lines` that the cluster could show at second `at`, now or earlier."""
        end = bisect_right(self._times, at)
        if at >= self.gone:
            return range(end, end)
        first = self._files[bisect_right(self._files, at, key=lambda file: file[0]) - 1][1]
        if options.rotate_every is not None:
            first += (end - first) // options.rotate_every * options.rotate_every
        if options.ring is not None:
            first = max(first, end - options.ring)
        return range(first, max(first, end))

    def shown(self, at: float, last: int | None, options: ClusterOptions) -> Iterator[tuple[float, str]]:
        """The last lines that an answer of second `at` shows, each with the second in which it began."""
        places = self.kept(at, options)
        if last is not None:
            places = places[-last:]
        texts = self.lines[places.start : places.stop]
        if texts:
            texts[-1] = self._as_of(places.stop - 1, at)
        if (limit := options.line_limit) is not None:
            texts = list(takewhile(lambda text: _fits(text, limit), texts))
        return zip(self._times[places.start : places.stop], texts, strict=False)

    def _as_of(self, place: int, at: float) -> str:
        """A line as it was at second `at`: it may have grown since."""
        sizes = self._growth.get(place, ())
        size = max((size for since, size in sizes if since <= at), default=None)
        return self.lines[place][:size]


class ContainerLog:
    """The log of one container: its pods, and how their lines make one answer.

    Attributes:
        pods: every pod it ever had, the present one last. More may be put before it by hand.
    """

    def __init__(self, pod: PodLog, seed: int = 0) -> None:
        self.pods: list[PodLog] = [pod]
        self._rng = Random(seed)

    @property
    def pod(self) -> PodLog:
        """The present pod."""
        return self.pods[-1]

    def start(self, at: float) -> None:
        """Let the present pod print."""
        self.pod.start(at)

    def stop(self, at: float) -> None:
        """Let no pod print any more; what was printed stays."""
        for pod in self.pods:
            pod.stop(at)

    def swap(self, pod: PodLog, at: float, linger: float = 0.0) -> None:
        """Put another pod in the place of those that are there; they go after `linger` seconds."""
        for old in self.pods:
            old.stop(at + linger)
            old.gone = min(old.gone, at + linger)
        self.pods.append(pod)

    def answer(self, now: float, last: int | None, options: ClusterOptions) -> list[str]:
        """The log answer of second `now`, oldest first within a pod: the last lines, or everything."""
        for pod in self.pods:
            pod.advance(now)
        if self._strikes(options.empty_rate):
            return []
        at = now - options.stale_by if self._strikes(options.stale_rate) else now
        window = None if options.last_applies == "nothing" else last
        if options.last_max is not None:
            window = min(window or options.last_max, options.last_max)
        mark = ": " if options.console_format else " "
        blocks = [
            [(since, f"[{pod.name.pod}]{mark}{text}") for since, text in pod.shown(at, window, options)]
            for pod in self.pods
        ]
        lines = self._merged([block for block in blocks if block], options)
        return lines[-window:] if options.last_applies == "answer" and window is not None else lines

    def _strikes(self, rate: float) -> bool:
        return rate > 0 and self._rng.random() < rate

    def _merged(self, blocks: list[list[tuple[float, str]]], options: ClusterOptions) -> list[str]:
        if options.pod_order == "time":
            return [text for _, text in heapq.merge(*blocks, key=lambda line: line[0])]
        pieces = blocks if options.pod_order == "pod" else self._mixed(blocks)
        return [text for piece in pieces for _, text in piece]

    def _mixed(self, blocks: list[list[tuple[float, str]]]) -> Iterator[list[tuple[float, str]]]:
        """Pieces of the blocks, of any length and in any order: as when the pods are read at once."""
        left = [(block, 0) for block in blocks]
        while left:
            block, begin = left.pop(self._rng.randrange(len(left)))
            end = self._rng.randint(begin + 1, len(block))
            yield block[begin:end]
            if end < len(block):
                left.append((block, end))


def _fits(text: str, limit: int) -> bool:
    return len(text) * 4 <= limit or len(text.encode("utf-8", "surrogatepass")) <= limit


CRASH_LINES = (
    "Loading the CUDA runtime",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "process exited with code 1",
)


def _training_run(rng: Random) -> Iterator[str]:
    """A container that boots and then trains for ever; many lines are alike, as in real logs."""
    yield "Starting entrypoint"
    yield "NVIDIA driver 570.124.06, CUDA 12.8"
    yield "Downloading the dataset"
    for percent in range(20, 101, 20):
        yield f"Loading checkpoint shards: {percent}%"
    yield "Training begins"
    step = 0
    loss = rng.uniform(8.0, 11.0)
    while True:
        step += 10
        loss = max(1.2, loss * rng.uniform(0.985, 1.002))
        yield f"step {step} loss {loss:.4f} lr 3.0e-04 {rng.randint(1700, 1950)} tokens/s"
        if step % 500 == 0:
            yield "Saving checkpoint"
            yield "Checkpoint saved"
