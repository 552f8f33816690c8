"""When to look, checked against numbers that were found in another way: by integration and by simulation."""

from __future__ import annotations

import math
from itertools import islice

import pytest
from hypothesis import given, strategies as st

from aiofluence import ConfigError, Poll
from aiofluence.polling.estimate import LifeTable, ProvisioningEstimate
from aiofluence.polling.schedule import backing_off, cheaper_as_list, cost, next_poll


def believed() -> LifeTable:
    return ProvisioningEstimate(150).table()


def integrated(table: LifeTable, age: float, then: float, steps: int = 4000) -> float:
    """E[(then - T)+ | T > age] by the midpoint rule over the CDF."""
    width = (then - age) / steps
    gone = table.at(age)[0]
    heights = (table.at(age + (step + 0.5) * width)[0] - gone for step in range(steps))
    return sum(heights) * width / (1 - gone)


@pytest.mark.parametrize(
    ("age", "then"), [(0, 60), (0, 150), (100, 110), (149.5, 150), (300, 400), (900, 5000)]
)
def test_undetected_time_is_an_integral(age: float, then: float) -> None:
    table = believed()
    assert table.undetected(age, then) == pytest.approx(integrated(table, age, then), rel=1e-3, abs=1e-9)


@given(
    is_pending=st.lists(st.tuples(st.floats(0, 500), st.integers(1, 5000)), min_size=1, max_size=20),
    gap=st.floats(0.1, 200),
    price=st.floats(0.1, 100),
)
def test_the_next_poll_is_worth_its_price(
    is_pending: list[tuple[float, int]], gap: float, price: float
) -> None:
    table = believed()
    looked = 500.0
    latest = looked + gap
    then = next_poll(table, is_pending, looked, price, latest)
    assert looked <= then <= latest
    unseen = sum(number * table.undetected(looked - born, then - born) for born, number in is_pending)
    assert unseen <= price * 1.02
    if then < latest:
        assert unseen >= price * 0.95


def test_the_more_wait_the_sooner_a_look() -> None:
    table = believed()
    gaps = [next_poll(table, [(0.0, number)], 140.0, 5.0, 1e9) - 140 for number in (1, 10, 100, 1000)]
    assert gaps == sorted(gaps, reverse=True)
    # Where they come evenly, the gap goes with the square root of how many: 10 times as many, a third of it.
    assert gaps[2] / gaps[3] == pytest.approx(math.sqrt(10), rel=0.1)


@pytest.mark.parametrize(("waiting", "ended"), [(5, 600), (10, 1300), (50, 7000), (200, 29_000)])
def test_a_list_pays_while_the_history_is_short(waiting: int, ended: int) -> None:
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
    assert Poll() == Poll(interval=10, cost=5, expected=None, earliest=0, prefer="details")
    assert Poll(interval=1) == Poll(interval=1, cost=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": 0},
        {"cost": -1},
        {"expected": 0.0},
        {"expected": math.inf},
        {"earliest": -1},
        {"prefer": "me"},
    ],
)
def test_a_poll_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Poll(**wrong)  # type: ignore[arg-type]
