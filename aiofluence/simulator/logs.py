"""The log store: the printed lines of each pod, the part that the cluster keeps, and answers.

A pure object without a simulator or a clock: callers pass the time. All printed lines stay readable beside
the shown ones, so that a test can distinguish a loss from a mistake.
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
    """Printed lines of one pod. The seconds passed to its methods must not decrease.

    Attributes:
        name: names of the pod and its owners.
        lines: every line that the pod ever printed, including lines that the cluster has dropped.
        gone: second from which the cluster shows nothing of the pod any more.
        begun: the pod's container has been started at least once.
    """

    def __init__(self, name: PodName, seed: int = 0, interval: float | None = None) -> None:
        self.name = name
        self.lines: list[str] = []
        self.gone: float = inf
        self.begun: bool = False
        self._times = array("d")  # start time of each line
        self._files: list[tuple[float, int]] = [(-inf, 0)]  # start time and first line of each file
        self._open = False  # the last line has not ended yet
        self._growth: dict[int, list[tuple[float, int]]] = {}  # (time, length) of lines printed in parts
        self._rng = Random(seed)  # a separate generator: the text must not depend on other draws
        self._interval = interval
        self._next: float | None = None
        self._until = inf
        self._script = _training_run(self._rng)

    # Changes

    def start(self, at: float) -> None:
        """Begin to print generated lines, if the pod has an interval."""
        self.begun = True
        if self._interval is not None:
            self._next = at

    def stop(self, at: float) -> None:
        """Print the lines due by second `at`, which may lie in the future, and stop permanently."""
        self._until = min(self._until, at)

    def pause(self, at: float) -> None:
        """Print the lines due by second `at`, and pause until the next `start`."""
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
        """Append text after all lines that were due. Each newline ends a line.

        An empty `end` leaves the last line unfinished. Answers show the unfinished line, and the next call
        continues it.
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
        """Begin a new file. Earlier lines are kept, but not shown again."""
        self.advance(at)
        self._open = False
        self._files.append((at, len(self.lines)))

    def restart(self, at: float) -> None:
        """Restart the container in this pod: begin a new file, and the generated text anew."""
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

    # Views

    def kept(self, at: float, options: ClusterOptions) -> range:
        """Return the indices in `lines` that the cluster could show at second `at`, now or earlier."""
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
        """Iterate over the last lines shown at second `at`, each with the second in which it began."""
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
        """Return a line as of second `at`: it may have grown since."""
        sizes = self._growth.get(place, ())
        size = max((size for since, size in sizes if since <= at), default=None)
        return self.lines[place][:size]


class ContainerLog:
    """The log of one container: its pods, and the answers made from their lines.

    Attributes:
        pods: every pod of the container, the present one last. Tests may insert more before it.
    """

    def __init__(self, pod: PodLog, seed: int = 0) -> None:
        self.pods: list[PodLog] = [pod]
        self._rng = Random(seed)

    @property
    def pod(self) -> PodLog:
        """The present pod."""
        return self.pods[-1]

    def start(self, at: float) -> None:
        """Start the output of the present pod."""
        self.pod.start(at)

    def stop(self, at: float) -> None:
        """Stop the output of all pods. Printed lines stay."""
        for pod in self.pods:
            pod.stop(at)

    def swap(self, pod: PodLog, at: float, linger: float = 0.0) -> None:
        """Replace the present pods by another one. The old pods disappear after `linger` seconds."""
        for old in self.pods:
            old.stop(at + linger)
            old.gone = min(old.gone, at + linger)
        self.pods.append(pod)

    def answer(self, now: float, last: int | None, options: ClusterOptions) -> list[str]:
        """Return the log answer at second `now`: the last lines or all, oldest first within a pod."""
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
        """Iterate over random pieces of the blocks in random order, as if the pods were read concurrently."""
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
    """Generate the lines of a boot and an endless training run. Many are similar, as in real logs."""
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
