"""Lines that a tail loses, repeats, fetches and delays, ours and four common approaches, for many log shapes.

`python -m benchmarks.tail [quick | full] [ours] [shape …]`, from the checkout. Time is simulated. The server
and the judge are in `tests/tail/store.py`. At the end: time to join a wide reply, and memory per pod.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from random import Random

import attrs

from aiofluence import LogGap, LogLine
from aiofluence.tail.stitch import Step, Stitch
from tests.tail.store import Judge, Store

LATENCY = 0.1
FAILING = 0.02  # of the polls
POD = "web-1"


# --- the shapes: each writes to the store the lines that its log would have by `now` ----------------------

Writer = Callable[[float], None]


@attrs.frozen
class Shape:
    """A log and the server behind it. `lossy`: the server itself loses lines, so gaps are correct."""

    name: str
    make: Callable[[Random], tuple[Store, Writer]]
    lossy: bool = False
    stale: float = 0.0
    empty: float = 0.0
    seconds: float = 600.0


def clocked(
    store: Store,
    rng: Random,
    per_second: float,
    lines: Iterator[str],
    pod: str = POD,
    *,
    start: float = 0.0,
    then: Writer | None = None,
) -> Writer:
    """Write the lines one by one, at random moments."""
    due = start + rng.expovariate(per_second)

    def write(now: float) -> None:
        nonlocal due
        while due <= now:
            store.clock = due
            store.write(next(lines), pod)
            due += rng.expovariate(per_second)
        if then is not None:
            then(now)

    return write


def unique(rng: Random, size: int = 55) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{number:08d} {rng.randrange(10**9):09d} ".ljust(size, "x")


def repeated(block: Sequence[str]) -> Iterator[str]:
    while True:
        yield from block


def words(rng: Random, count: int, size: int = 25) -> list[str]:
    return [f"{rng.randrange(10**6):06d} ".ljust(size, "y") for _ in range(count)]


def runs(rng: Random) -> Iterator[str]:
    for line in unique(rng):
        yield line
        yield from ["waiting for the next batch"] * rng.randrange(20, 600)


def blocks(rng: Random) -> Iterator[str]:
    epoch = 0
    while True:
        epoch += 1
        yield f"epoch {epoch}"
        yield from (f"  row {row}: done" for row in range(30))


def few(rng: Random) -> Iterator[str]:
    while True:
        yield rng.choice(("ok", "", "retry", "done"))


def plain(
    lines: Callable[[Random], Iterator[str]], per_second: float
) -> Callable[[Random], tuple[Store, Writer]]:
    def make(rng: Random) -> tuple[Store, Writer]:
        store = Store(rng=rng)
        return store, clocked(store, rng, per_second, lines(rng))

    return make


def every(seconds: float, act: Callable[[], None]) -> Writer:
    """Call `act` at regular intervals."""
    due = seconds

    def write(now: float) -> None:
        nonlocal due
        if now >= due:
            due += seconds
            act()

    return write


def bursts(rng: Random) -> tuple[Store, Writer]:
    store, lines = Store(rng=rng), unique(rng)

    def burst() -> None:
        for _ in range(rng.randrange(150, 3500)):
            store.write(next(lines), POD)

    return store, every(60.0, burst)


def pods(rng: Random) -> tuple[Store, Writer]:
    store = Store(order="shuffled", rng=rng)
    writers = [clocked(store, rng, rate, unique(rng), f"web-{rate}") for rate in (3.0, 1.7, 0.5)]
    return store, lambda now: [writer(now) for writer in writers] and None


def chatty(order: str) -> Callable[[Random], tuple[Store, Writer]]:
    def make(rng: Random) -> tuple[Store, Writer]:
        store = Store(mode="global", order=order, rng=rng)
        quiet = clocked(store, rng, 0.02, unique(rng), "quiet")
        store.write("here I am", "quiet")
        return store, clocked(store, rng, 50.0, unique(rng), "chatty", then=quiet)

    return make


def lossy(
    per_second: float, seconds: float, act: Callable[[Store, Random], None], **habits: object
) -> Callable[[Random], tuple[Store, Writer]]:
    def make(rng: Random) -> tuple[Store, Writer]:
        store = Store(rng=rng, **habits)  # type: ignore[arg-type]
        return store, clocked(
            store, rng, per_second, unique(rng), then=every(seconds, lambda: act(store, rng))
        )

    return make


def restart(store: Store, rng: Random) -> None:
    store.rotate(0, POD)
    for line in ("booting", "reading the configuration", f"run {rng.random()}"):
        store.write(line, POD)


def ringed(rng: Random) -> tuple[Store, Writer]:
    store, lines = Store(ring=1000, rng=rng), unique(rng)

    def burst() -> None:
        for _ in range(rng.randrange(100, 2500)):
            store.write(next(lines), POD)

    return store, clocked(store, rng, 2.0, lines, then=every(60.0, burst))


def swapped(rng: Random) -> tuple[Store, Writer]:
    store = Store(rng=rng)
    generation = 0
    writer = clocked(store, rng, 3.0, unique(rng), "web-0")

    def swap() -> None:
        nonlocal generation, writer
        now = 120.0 * (generation + 1)
        if generation:
            store.remove(f"web-{generation - 1}")
        generation += 1
        writer = clocked(store, rng, 3.0, unique(rng), f"web-{generation}", start=now)

    act = every(120.0, swap)

    def write(now: float) -> None:
        act(now)
        writer(now)

    return store, write


def growing(rng: Random) -> tuple[Store, Writer]:
    store = Store(rng=rng)
    store.write("loading", POD)
    due = 0.0

    def write(now: float) -> None:
        nonlocal due
        while due <= now:
            due += rng.expovariate(0.5)
            if rng.random() < 0.2:
                store.write(f"shard {rng.random()}", POD)
            else:
                store.grow(".", POD)

    return store, write


def huge(rng: Random) -> Iterator[str]:
    for number, line in enumerate(unique(rng)):
        yield line + "z" * 1_000_000 if number % 300 == 299 else line


SHAPES = [
    Shape("unique 5/s", plain(unique, 5.0)),
    Shape("bursts 150-3,500", bursts),
    Shape("constant 1/s", plain(lambda rng: repeated(["still alive"]), 1.0)),
    Shape("runs of 20-600", plain(runs, 2.0)),
    Shape("one 40-line trace", plain(lambda rng: repeated(words(rng, 40)), 16.0)),
    Shape("period 2", plain(lambda rng: repeated(words(rng, 2)), 3.0)),
    Shape("period 3", plain(lambda rng: repeated(words(rng, 3)), 3.0)),
    Shape("period 7", plain(lambda rng: repeated(words(rng, 7)), 3.0)),
    Shape("period 64", plain(lambda rng: repeated(words(rng, 64)), 3.0)),
    Shape("epoch / row blocks", plain(blocks, 5.0)),
    Shape("four words at random", plain(few, 5.0)),
    Shape("one line an hour", plain(unique, 1 / 3600), seconds=3600.0),
    Shape("2,000/s for a minute", plain(unique, 2000.0), seconds=60.0),
    Shape("3 pods, shuffled", pods),
    Shape("quiet pod, global last", chatty("mixed")),
    Shape("quiet pod, shuffled", chatty("shuffled")),
    Shape("2 % empty, 2 % stale", plain(unique, 5.0), stale=0.02, empty=0.02),
    Shape("a growing line", growing),
    Shape("lines of 1 MB", plain(huge, 5.0)),
    Shape("last is ignored", lambda rng: _ignoring(rng)),
    Shape(
        "rotation", lossy(5.0, 45.0, lambda store, rng: store.rotate(rng.choice((0, 5, 40)), POD)), lossy=True
    ),
    Shape("restart", lossy(5.0, 50.0, restart), lossy=True),
    Shape("ring of 1,000", ringed, lossy=True),
    Shape(
        "64 KiB cut",
        lossy(5.0, 40.0, lambda store, rng: store.write("w" * 70_000 + str(rng.random()), POD), cut=True),
        lossy=True,
    ),
    Shape("pods swapped", swapped, lossy=True),
]


def _ignoring(rng: Random) -> tuple[Store, Writer]:
    store = Store(mode="none", rng=rng)
    return store, clocked(store, rng, 2.0, unique(rng))


# --- the contenders: each takes a reply, and returns what to deliver, what to request next, and when -------


class Fixed:
    """A poll every two seconds, always with the same window."""

    def __init__(self, ask: int | None) -> None:
        self.ask = ask

    def take(self, lines: Sequence[LogLine], asked: int | None, now: float, *, ending: bool = False) -> Step:
        return Step(tuple(self.new(lines)), self.ask, False, 2.0)

    def finish(self) -> tuple[LogLine | LogGap, ...]:
        return ()

    def new(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        raise NotImplementedError


class SetDedup(Fixed):
    """All lines that were never seen before."""

    def __init__(self) -> None:
        super().__init__(100)
        self._seen: set[str] = set()

    def new(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        new = []
        for line in lines:
            if line.raw not in self._seen:
                self._seen.add(line.raw)
                new.append(line)
        return new


class LastLine(Fixed):
    """All lines after the line that was last."""

    def __init__(self) -> None:
        super().__init__(100)
        self._last: str | None = None

    def new(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        raws = [line.raw for line in lines]
        new = lines
        if self._last in raws:
            new = lines[len(raws) - raws[::-1].index(self._last) :]
        if raws:
            self._last = raws[-1]
        return new


class Overlap(Fixed):
    """All lines after the longest overlap with the reply before."""

    def __init__(self) -> None:
        super().__init__(1000)
        self._before: list[int] = []

    def new(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        seen = [hash(line.raw) for line in lines]
        before, self._before = self._before, seen
        for common in range(min(len(before), len(seen)), 0, -1):
            if before[-common] == seen[0] and before[-common:] == seen[:common]:
                return lines[common:]
        return lines


class FullCount(Fixed):
    """The whole log each time, and all lines after the count so far."""

    def __init__(self) -> None:
        super().__init__(None)
        self._count = 0

    def new(self, lines: Sequence[LogLine]) -> Sequence[LogLine]:
        count, self._count = self._count, len(lines)
        return lines[count if count <= len(lines) else 0 :]


CONTENDERS: dict[str, Callable[[], Fixed | Stitch]] = {
    "ours": Stitch,
    "set 100": SetDedup,
    "last line 100": LastLine,
    "overlap 1000": Overlap,
    "full, count": FullCount,
}


# --- one simulation of one tail -----------------------------------------------------------------------------


@attrs.define
class Figures:
    """The printed figures of one contender on one shape, summed over the seeds."""

    lines: int = 0
    lost: int = 0
    twice: int = 0
    disorder: int = 0
    silent: int = 0
    marks: int = 0
    needless: int = 0
    megabytes: float = 0.0
    requests: int = 0
    seconds: float = 0.0
    delays: list[float] = attrs.Factory(list)


def live(shape: Shape, tail: Fixed | Stitch, seed: int, figures: Figures, seconds: float) -> None:
    """Follow a log from its beginning to its end."""
    rng, luck = Random(seed), Random(seed + 1)
    store, write = shape.make(rng)
    judge = Judge(store)
    now, ask = 0.0, tail.ask
    ending = False
    while True:
        for step in range(1, 5):  # in steps, so that the order of pods is not the order of the calls
            store.clock = max(0.0, min(now, seconds) - LATENCY * (4 - step))
            write(store.clock)
        store.snapshot(now)
        draw = luck.random()
        failed = draw < FAILING and not ending
        stale = 0 if ending else int(FAILING <= draw < FAILING + shape.stale)
        lines = store.fetch(ask, stale=stale * 2)
        if FAILING + shape.stale <= draw < FAILING + shape.stale + shape.empty and not ending:
            lines = []
        figures.requests += 1
        now += LATENCY
        if failed:
            now += 2.0
            continue
        figures.megabytes += sum(len(line.raw) + 3 for line in lines) / 1e6
        verdict = tail.take(lines, ask, now, ending=ending)
        figures.delays += [now - line.at for line in judge.see(verdict.items)]
        ask = verdict.ask
        if not verdict.at_once:
            if ending:
                break
            now += verdict.interval
        ending = now >= seconds
    result = judge.finish(tail.finish(), wanted=store.pods)
    figures.lines += sum(len(log.lines) for log in store.pods.values())
    figures.lost += result.lost
    figures.twice += result.twice
    figures.disorder += result.disorder
    figures.silent += result.silent
    figures.marks += result.marks
    figures.needless += result.needless
    figures.seconds += seconds


def compare(shape: Shape, names: Sequence[str], seeds: int, share: float) -> None:
    """Print a row for each contender."""
    for name in names:
        figures = Figures()
        for seed in range(seeds):
            live(shape, CONTENDERS[name](), seed, figures, shape.seconds * share)
        delay = statistics.fmean(figures.delays) if figures.delays else 0.0
        title = f"**{shape.name}** ({figures.lines:,})" if name == "ours" else ""
        per_seed = figures.megabytes / seeds
        print(
            f"| {title} | {name} | {figures.lost:,} | {figures.twice:,} | {figures.disorder:,} "
            f"| {figures.silent:,} | {figures.marks} | {figures.needless} | {per_seed:.2f} "
            f"| {figures.requests / seeds:.0f} | {figures.seconds / figures.requests:.1f} | {delay:.1f} |",
            flush=True,
        )


# --- micro -------------------------------------------------------------------------------------------------


def micro() -> None:
    """Measure the time of one poll, and the memory of one pod."""
    print("\n| lines in the answer | unique, ms | constant, ms | period 7, ms | state of a pod, KiB |")
    print("|---|---|---|---|---|")
    for size in (64, 256, 1024, 4096):
        cells = []
        for period in (10**9, 1, 7):
            texts = [
                LogLine.parse(f"[{POD}] line {number % period} of the log") for number in range(size + 9000)
            ]
            stitch = Stitch()
            stitch.take(texts[:8800], None, 0.0)
            times = []
            for poll in range(1, 12):
                end = 8800 + 20 * poll
                answer = texts[max(0, end - size) : end]
                began = time.process_time()
                stitch.take(answer, size, 2.0 * poll)
                times.append(time.process_time() - began)
            cells.append(f"{statistics.median(times) * 1e3:.2f}")
        print(f"| {size:,} | {' | '.join(cells)} | {state() / 1024:.0f} |")


def state() -> float:
    """Return the bytes that one pod's tail keeps after many polls."""
    rng = Random(0)
    lines = unique(rng)
    gc.collect()
    tracemalloc.start()
    stitch = Stitch()
    window: list[LogLine] = []
    for poll in range(30):
        window = [*window[-1000:], *(LogLine.parse(f"[{POD}] {next(lines)}") for _ in range(1000))]
        stitch.take(window, len(window), poll * 2.0)
    del window
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used


def main() -> None:
    """Run and print."""
    arguments = sys.argv[1:]
    full = "full" in arguments
    names = ["ours"] if "ours" in arguments else list(CONTENDERS)
    wanted = [word for word in arguments if word not in ("full", "quick", "ours")]
    seeds, share = (10, 1.0) if full else (1, 0.4)
    print(
        f"{seeds} seed(s), {share:.0%} of the time; {FAILING:.0%} of the polls fail; MB, requests per seed\n"
    )
    print(
        "| shape (lines) | tail | lost | twice | out of order | silent | marks | needless "
        "| MB | requests | s/request | mean delay, s |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for shape in SHAPES:
        if not wanted or any(word in shape.name for word in wanted):
            compare(shape, names, seeds, share)
    micro()


if __name__ == "__main__":
    main()
