"""When to look, checked against numbers that were found in another way: by integration and by simulation."""

from __future__ import annotations

import math
from itertools import islice
from random import Random

import pytest
from hypothesis import given, strategies as st

from aiofluence import ConfigError, Poll
from aiofluence.lifecycle.schedule import Belief, Table, backing_off, cheaper_as_list, cost, next_look


def believed() -> Table:
    return Belief(150, 60).table()


def integrated(table: Table, age: float, then: float, steps: int = 4000) -> float:
    """E[(then - T)+ | T > age] by the midpoint rule over the CDF."""
    width = (then - age) / steps
    gone = table.at(age)[0]
    heights = (table.at(age + (step + 0.5) * width)[0] - gone for step in range(steps))
    return sum(heights) * width / (1 - gone)


@pytest.mark.parametrize(
    ("age", "then"), [(0, 60), (0, 150), (100, 110), (149.5, 150), (300, 400), (900, 5000)]
)
def test_undetected_time_is_the_integral_that_it_says(age: float, then: float) -> None:
    table = believed()
    assert table.undetected(age, then) == pytest.approx(integrated(table, age, then), rel=1e-3, abs=1e-9)


def test_the_guess_is_a_distribution_around_the_expected_time() -> None:
    table = believed()
    assert table.cdf[0] == 0
    assert list(table.cdf) == sorted(table.cdf)
    assert table.at(150)[0] == pytest.approx(0.5, abs=0.02)
    assert table.at(60)[0] < 0.05
    assert table.cdf[-1] == pytest.approx(1, abs=0.01)


@given(
    crowd=st.lists(st.tuples(st.floats(0, 500), st.integers(1, 5000)), min_size=1, max_size=20),
    gap=st.floats(0.1, 200),
    price=st.floats(0.1, 100),
)
def test_the_next_look_is_the_moment_when_it_is_worth_its_price(
    crowd: list[tuple[float, int]], gap: float, price: float
) -> None:
    table = believed()
    looked = 500.0
    latest = looked + gap
    then = next_look(table, crowd, looked, price, latest)
    assert looked <= then <= latest
    unseen = sum(number * table.undetected(looked - born, then - born) for born, number in crowd)
    assert unseen <= price * 1.02
    if then < latest:
        assert unseen >= price * 0.95


def test_the_more_wait_the_sooner_a_look() -> None:
    table = believed()
    gaps = [next_look(table, [(0.0, number)], 140.0, 5.0, 1e9) - 140 for number in (1, 10, 100, 1000)]
    assert gaps == sorted(gaps, reverse=True)
    # Where they come evenly, the gap goes with the square root of how many: 10 times as many, a third of it.
    assert gaps[2] / gaps[3] == pytest.approx(math.sqrt(10), rel=0.1)


@pytest.mark.parametrize("true", [20.0, 400.0])
def test_what_is_seen_replaces_the_guess(true: float) -> None:
    belief = Belief(150, 60)
    rng = Random(1)
    for _ in range(300):
        time = true * math.exp(rng.gauss(0, 0.1))
        belief.saw(math.floor(time / 5) * 5, math.floor(time / 5) * 5 + 5)
    table = belief.table()
    assert table.at(true)[0] == pytest.approx(0.5, abs=0.1)
    assert table.at(true * 0.7)[0] < 0.2
    assert table.at(true * 1.4)[0] > 0.8
    assert belief.earliest == pytest.approx(true * 0.75, rel=0.25)


def test_a_service_that_became_fast_is_found_out_although_looks_came_late() -> None:
    belief = Belief(150, 60)
    looks = []
    for _ in range(40):  # one at a time, each ready after 5 s; only the first look finds it
        then = next_look(belief.table(), [(0.0, 1)], 0.0, 5.0, belief.earliest)
        belief.saw(0.0, then)
        looks.append(then)
    assert looks[0] == 60
    assert looks[-1] < 25


def test_those_who_still_wait_are_evidence() -> None:
    belief = Belief(150, 60)
    alone = belief.table().undetected(150, 160)
    crowd = belief.table(200.0, [(0.0, 1000)])
    # A thousand have lived through 150 to 200 s, and none was ready: it takes longer than was thought.
    assert crowd.undetected(150, 160) < alone / 10


def test_what_was_seen_long_ago_counts_less() -> None:
    belief = Belief(150, 60)
    for low in (100.0, 200.0):
        for _ in range(6000):
            belief.saw(low, low + 5)
    assert belief.table().at(150)[0] < 0.25
    belief.saw(50.0, 50.0)  # no interval at all: says nothing
    assert belief.table().at(150)[0] < 0.25


@pytest.mark.parametrize(("waiting", "ended"), [(5, 600), (10, 1300), (50, 7000), (200, 29_000)])
def test_a_list_pays_while_the_history_is_short_enough(waiting: int, ended: int) -> None:
    row = 453  # bytes, as the simulator writes them
    assert cheaper_as_list(waiting, ended * row * 0.9)
    assert not cheaper_as_list(waiting, ended * row * 1.15)
    assert not cheaper_as_list(1, 0)
    assert cost(65536) == 2


def test_gaps_grow_up_to_the_interval() -> None:
    gaps = list(islice(backing_off(10), 12))
    assert gaps[0] == 0.5
    assert gaps == sorted(gaps)
    assert gaps[-1] == 10


def test_a_poll_scales_with_its_interval() -> None:
    assert Poll() == Poll(interval=10, cost=5, expected=150, earliest=60, prefer="details")
    assert Poll(interval=1) == Poll(interval=1, cost=0.5, expected=15, earliest=6)


@pytest.mark.parametrize(
    "wrong", [{"interval": 0}, {"cost": -1}, {"expected": math.inf}, {"earliest": -1}, {"prefer": "me"}]
)
def test_a_poll_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Poll(**wrong)  # type: ignore[arg-type]
