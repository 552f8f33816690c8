"""Random logs: the delivered lines are the truth, or a mark shows where they may not be.

Small alphabets, blocks over and over, bursts, growing lines, hiccups; then rotations, restarts, swapped pods,
rings and lines too long to show. `AIOFLUENCE_STITCH_CASES=100000` runs as many cases.
"""

from __future__ import annotations

import os
from random import Random
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from ..harness import THOROUGH
from .life import Again, Grow, Poll, Rotate, Swap, TooLong, Write, live
from .store import Store

CASES = int(os.environ.get("AIOFLUENCE_STITCH_CASES", "2000" if THOROUGH else "50"))
many = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="AIOFLUENCE_STITCH_CASES" not in os.environ,
    database=None,
    phases=(Phase.explicit, Phase.generate),  # a life is long: shrinking it takes minutes
    suppress_health_check=list(HealthCheck),
)

pod = st.integers(0, 2)
# "#" becomes a number of its own; the other words recur.
word = st.sampled_from(("#", "#", "#", "", "a", "b", "beat", "step # of many"))
block = st.one_of(
    st.lists(word, min_size=1, max_size=8).map(tuple),
    st.integers(2, 64).map(lambda size: tuple(f"row {row}" for row in range(size))),
)
times = st.one_of(st.integers(1, 4), st.integers(1, 30), st.sampled_from((80, 300)))
write = st.builds(Write, block, times, pod)
few = st.builds(Write, st.lists(word, min_size=1, max_size=3).map(tuple), st.integers(1, 3), pod)
grow = st.builds(Grow, pod)


def polls(
    meanwhile: st.SearchStrategy[Write], *kinds: st.SearchStrategy[object]
) -> st.SearchStrategy[list[Poll]]:
    before = st.lists(st.one_of(meanwhile, *kinds), max_size=4).map(tuple)
    during = st.lists(meanwhile, max_size=1).map(tuple)
    hiccup = st.sampled_from((False, False, False, False, True))
    poll = st.builds(Poll, before, during, st.sampled_from((0, 0, 0, 0, 0, 1, 2)), hiccup, hiccup)
    return st.lists(poll, min_size=1, max_size=12)


shown = st.tuples(
    st.sampled_from(("pod", "pod", "global", "none")),
    st.sampled_from(("fixed", "shuffled", "mixed", "raced")),
)


@many
@given(
    shown,
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from((1, 10, 100)),
    polls(few, few, write, grow),
    st.integers(0, 99),
)
def test_a_server_that_keeps_all_leaves_no_mark(
    how: tuple[str, str], named: bool, pods: int, last: int, life: list[Poll], seed: int
) -> None:
    store = Store(mode=how[0], order=how[1], rng=Random(seed))
    result = live(store, named, pods, last, life)
    assert (result.lost, result.twice, result.disorder, result.marks) == (0, 0, 0, 0), result.wrong
    assert result.unfinished == 0


# Blocks that come again word for word, up to the whole log so far, with and without a head of their own.
again = st.builds(
    Again,
    st.one_of(st.integers(1, 40), st.integers(17, 400), st.sampled_from((600, 5000, 100_000))),
    st.sampled_from((1, 1, 1, 2)),
    st.sampled_from(("", "", "attempt # failed:", "failed:")),
    pod,
)
distinct = st.builds(Write, st.just(("line #",)), st.sampled_from((1, 3, 17, 31, 100, 300)), pod)


class Marked:
    """Lives in which lines were lost behind a mark, though the server kept them."""

    lives = 0
    lossy = 0


@many
@given(
    shown,
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from((1, 10, 100, 10**6)),
    polls(few, distinct, distinct, again),
    st.lists(st.sampled_from((0.0, 0.0, 10.0, 70.0)), min_size=12, max_size=12),
    st.integers(0, 99),
)
def check_blocks_that_come_again(
    how: tuple[str, str],
    named: bool,
    pods: int,
    last: int,
    life: list[Poll],
    waits: list[float],
    seed: int,
) -> None:
    store = Store(mode=how[0], order=how[1], rng=Random(seed))
    life = [attrs.evolve(poll, wait=wait) for poll, wait in zip(life, waits, strict=False)]
    result = live(store, named, pods, last, life)
    assert (result.silent, result.twice, result.disorder, result.needless) == (0, 0, 0, 0), result.wrong
    Marked.lives += 1
    Marked.lossy += result.lost > 0


def test_repeated_blocks_are_delivered_or_marked() -> None:
    Marked.lives = Marked.lossy = 0
    check_blocks_that_come_again()
    # Most of those repeat all that was ever written between two polls. The mark is for them, and few others.
    assert Marked.lives >= min(CASES, 50)
    assert Marked.lossy <= Marked.lives * 0.15


# Each time something new: what begins anew word for word, no fetch can tell from what was there.
some = st.builds(
    Write, st.lists(word, min_size=1, max_size=3).map(lambda words: ("#", *words)), st.integers(1, 3), pod
)
fresh = st.builds(Write, st.sampled_from((("#",), ("#", "#", ""), ("step #",))), times, pod)
loss = st.one_of(st.builds(Rotate, st.sampled_from((0, 3, 40)), pod), st.builds(Swap, pod))
long = st.builds(TooLong, pod)
orders = st.sampled_from(("fixed", "shuffled", "raced"))
rings = st.sampled_from((None, None, 200, 1000))


def judge(store: Store, named: bool, pods: int, life: list[Poll]) -> None:
    result = live(store, named, pods, 100, life)
    assert (result.silent, result.twice, result.disorder, result.needless) == (0, 0, 0, 0), result.wrong
    assert result.too_sure == 0, result.wrong


@many
@given(
    orders,
    st.booleans(),
    st.integers(1, 3),
    rings,
    polls(some, fresh, fresh, loss, grow),
    st.integers(0, 99),
)
def test_what_the_server_loses_is_marked(
    order: str, named: bool, pods: int, ring: int | None, life: list[Poll], seed: int
) -> None:
    judge(Store(order=order, ring=ring, rng=Random(seed)), named, pods, life)


width = st.sampled_from((20, 100, 1000, 5000))
limits = st.one_of(
    st.fixed_dictionaries({"refused": width, "whole_refused": st.booleans()}),
    st.fixed_dictionaries({"clamp": width, "clamp_whole": st.booleans()}),
    st.just({"whole_refused": True}),
)


@many
@given(orders, st.booleans(), st.integers(1, 3), limits, polls(few, fresh, fresh, grow), st.integers(0, 99))
def test_lines_hidden_by_limits_are_marked(
    order: str, named: bool, pods: int, habits: dict[str, Any], life: list[Poll], seed: int
) -> None:
    judge(Store(order=order, rng=Random(seed), **habits), named, pods, life)


@many
@given(rings, polls(some, fresh, fresh, loss, long, grow))
def test_lines_hidden_by_a_long_line_are_marked(ring: int | None, life: list[Poll]) -> None:
    judge(Store(ring=ring, cut=True), False, 1, life)
