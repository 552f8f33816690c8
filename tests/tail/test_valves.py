"""Rules of the stitcher that rare logs need: pods whose windows are shared, refused windows, empty lines.

Asserts on delivered lines and marks.
"""

from __future__ import annotations

from random import Random

import pytest

from .life import Again, Poll, Rotate, Write, live
from .store import Counted, Judgement, Store

LINES = ("line #",)


def told(result: Judgement) -> tuple[int, int, int, int]:
    return result.silent, result.twice, result.disorder, result.needless


@pytest.mark.parametrize("others", range(2, 40))
def test_a_quiet_pod_may_repeat_its_first_lines(others: int) -> None:
    """As many lines as a pod ever wrote are no proof that they are those, in a window that others fill."""
    store = Store(order="mixed")
    again = Again(28, 1, "attempt # failed:", 0)
    life = [
        Poll((Write(LINES, 100, 1), Write(LINES, 3, 0))),
        Poll((Write(LINES, 1, 1),)),
        Poll((again, again, Write(("", "beat", "#"), 3, 0), Write(LINES, others, 1))),
        Poll((Write(LINES, 1, 1),)),
    ]
    result = live(store, True, 2, 10**6, life)
    assert told(result) == (0, 0, 0, 0), result.wrong
    assert result.lost == 0


def test_another_pods_whole_log_counts_repeats() -> None:
    store = Store(order="raced", rng=Random(1))
    life = [
        Poll((Write(LINES, 1500, 1), Write(("row 1", "row 2"), 90, 0))),
        Poll((Again(5000, 3, "attempt # failed:", 1), Write(LINES, 300, 1))),
    ]
    result = live(store, True, 2, 100, life)
    assert told(result) == (0, 0, 0, 0), result.wrong
    assert result.marks == 1


def test_an_empty_last_line_does_not_grow() -> None:
    """A log that began anew and is as long as before is marked, whatever is in place of the empty line."""
    store = Store()
    block = tuple(f"row {row}" for row in range(30))
    life = [
        Poll((Write(block), Write(("",)))),
        Poll(),
        Poll((Rotate(0, head=False), Write(block), Write(("other", "more")))),
        Poll(),
    ]
    result = live(store, True, 1, 10**6, life)
    assert told(result) == (0, 0, 0, 0), result.wrong
    assert result.marks == 1


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("count", [40, 315, 3000])
def test_refused_windows_cost_few_fetches(count: int, failed: bool) -> None:
    store = Counted(refused=20)
    result = live(
        store, True, 1, 10**6, [Poll(), Poll((Write(LINES, count),), failed=failed), Poll(failed=failed)]
    )
    assert told(result) == (0, 0, 0, 0), result.wrong
    assert (result.marks, result.delivered) == (0, count)
    assert store.fetches < 20


def test_marks_count_what_a_whole_log_shows() -> None:
    """A reader who adds up the marks knows how many lines are missing."""
    store = Store()
    life = [Poll((Write(LINES, 2000),)), Poll((Again(5000, 2),)), Poll(), Poll((Write(LINES, 3),), wait=70.0)]
    result = live(store, False, 1, 10**6, life)
    assert told(result) == (0, 0, 0, 0), result.wrong
    assert result.lost in (0, 4000)
