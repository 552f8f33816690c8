"""Blocks that a log writes again word for word: delivered, or marked, and never dropped in silence.

The server is `store`, whose judge knows the truth; time is simulated.
"""

from __future__ import annotations

import pytest

from aiofluence import GapReason, LogGap, LogLine
from aiofluence.tail.repeats import Recount
from aiofluence.tail.stitch import Stitch

from ..harness import sample
from .store import Judge, Judgement, Store

POD = "web-1"


def trace(size: int) -> list[str]:
    return [f'  File "/app/m{line}.py", line {31 * line}, in f{line}' for line in range(size)]


def follow(
    log: list[tuple[float, str]], seconds: float, *, ended: bool = True, last: int = 100
) -> tuple[Judgement, float]:
    """Tail `log` of (time, text); returns the judgement, and bytes fetched as a multiple of the log's own."""
    store, stitch = Store(), Stitch(last)
    judge, now, written, size, ending = Judge(store), 0.0, 0, 0, False
    while True:
        while written < len(log) and log[written][0] <= now:
            store.write(log[written][1], POD)
            written += 1
        asked = stitch.ask
        lines = store.fetch(asked)
        size += sum(len(line.raw) for line in lines)
        now += 0.05
        step = stitch.take(lines, asked, now, ending=ending)
        judge.see(step.items)
        if step.at_once:
            continue
        if ending or (now >= seconds and not ended):
            break
        now += step.interval
        ending = ended and now >= seconds
    result = judge.finish(stitch.finish() if ended else ())
    return result, size / max(1, sum(len(line.raw) for line in store.pods[POD].lines))


@pytest.mark.parametrize(
    ("size", "times", "head", "history", "after", "ended"),
    sample(5, [17, 31, 400], [1, 6], ["", "attempt {} failed:"], [0, 200], [0, 60], [True, False]),
)
def test_a_block_that_comes_again_is_delivered(
    size: int, times: int, head: str, history: int, after: int, ended: bool
) -> None:
    log = [(0.1 * line, f"loading shard {line}") for line in range(history)]
    for attempt in range(times + 1):
        at = 30.0 + 60 * attempt
        log += [(at, text) for text in [*([head.format(attempt)] if head else []), *trace(size)]]
    end = 30.0 + 60 * times
    log += [(end + 1 + line, f"after {line}") for line in range(after)]
    result, fetched = follow(log, end + after + 120, ended=ended)
    assert (result.lost, result.twice, result.disorder, result.needless) == (0, 0, 0, 0), result.wrong
    assert fetched < 90


@pytest.mark.parametrize("head", ["", "attempt {} failed:"], ids=["no head", "head"])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("size", [1500, 5000])
def test_a_long_repeated_block_is_never_lost(size: int, times: int, head: str) -> None:
    log: list[tuple[float, str]] = []
    for attempt in range(times + 1):
        at = 30.0 + 60 * attempt
        log += [(at, text) for text in [*([head.format(attempt)] if head else []), *trace(size)]]
    result, fetched = follow(log, 30.0 + 60 * times + 120)
    assert (result.silent, result.twice, result.disorder, result.needless) == (0, 0, 0, 0), result.wrong
    assert result.lost == 0, result.wrong
    assert fetched < 20


@pytest.mark.parametrize("lines", [100, 700])
def test_a_repeat_without_pause_is_marked_at_last(lines: int) -> None:
    """No pause warns of it, so a window of ordinary width joins; the count of the whole log tells."""
    steps = [f"step {line}" for line in range(lines)]
    log = [(0.5 * line, text) for line, text in enumerate(steps)]
    turn = 0.5 * lines
    log += [(turn, text) for text in steps]
    log += [(turn + line, f"after {line}") for line in range(100)]
    result, _ = follow(log, turn + 130)
    assert result.silent == 0, result.wrong
    assert (result.twice, result.disorder, result.needless) == (0, 0, 0), result.wrong
    assert result.lost in (0, lines)
    assert result.late == result.lost


def test_a_mark_counts_the_missed_lines() -> None:
    stitch = Stitch(1000)
    items: list[LogLine | LogGap] = []
    steps = [f"step {line}" for line in range(100)]
    log = Store()
    for text in steps:
        log.write(text, POD)
    now, ending = 0.0, False
    for _ in range(40):
        asked = stitch.ask
        step = stitch.take(log.fetch(asked), asked, now, ending=ending)
        items += step.items
        now += 1.0
        if not step.at_once:
            if ending:
                break
            if (
                len(log.pods[POD].lines) == 100
            ):  # at once, before any pause: the same again, and something new
                for text in [*steps, "after"]:
                    log.write(text, POD)
            else:
                ending = True
    marks = [item for item in items if isinstance(item, LogGap)]
    assert marks in ([], [LogGap(GapReason.REPEATS, 100, POD)])
    assert len(items) == 202 - 100 * len(marks) - (not marks)


def test_a_quiet_log_costs_little_more_for_it() -> None:
    """An hour of silence behind 2,000 lines: the wider looks are a small part of what the log itself is."""
    log = [(0.01 * line, f"line {line} of a log that says nothing twice") for line in range(2000)]
    result, fetched = follow(log, 3600.0, ended=False)
    assert (result.lost, result.marks) == (0, 0)
    assert fetched < 12


# --- when a wider look is due -------------------------------------------------------------------------------


def test_no_look_is_due_while_lines_come() -> None:
    recount = Recount()
    assert recount.overlap(3, 0.0, ending=False) == 0
    recount.came(300, 0.0)
    assert recount.overlap(3, 4.9, ending=False) == 0
    assert recount.overlap(3, 5.0, ending=False) == 316  # behind a pause: all that came before it
    assert recount.overlap(0, 5.0, ending=False) == 0


def test_looks_of_a_quiet_log_are_rarer_and_wider() -> None:
    recount = Recount()
    recount.came(20, 0.0)
    due = []
    for now in range(20_000):
        need = recount.overlap(0, float(now), ending=False)
        if need:
            due.append((now, need))
            recount.looked(float(now))
    assert due == [(60, 64), (240, 256), (960, 1024), (3840, 4096), (15360, 8192)]
    recount.came(1, 20_000.0)
    assert recount.overlap(0, 20_059.0, ending=False) == 0
    assert recount.overlap(0, 20_060.0, ending=False) == 64


def test_a_long_block_is_forgotten_slowly() -> None:
    recount = Recount()
    recount.came(100, 0.0)
    recount.came(100, 4.0)
    assert recount.overlap(1, 10.0, ending=False) == 216
    recount.came(1, 10.0)
    assert recount.overlap(1, 20.0, ending=False) == 116
    recount.came(0, 20.0)
    recount.came(1, 30.0)
    assert recount.overlap(1, 40.0, ending=False) == 66
    recount.came(1, 42.0)
    assert recount.overlap(1, 46.0, ending=False) == 0
    recount.came(20_000, 40.0)
    assert recount.overlap(1, 50.0, ending=False) == 8192 + 16
    assert recount.overlap(0, 41.0, ending=True) == 8192
