"""The estimate of provisioning times: first guess, learning, and the goals that it has to meet."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from random import Random
from statistics import NormalDist, fmean
from typing import Any

import attrs
import pytest

from aiofluence import RateLimit, Session
from aiofluence.polling.estimate import ProvisioningEstimate
from aiofluence.polling.schedule import next_poll
from aiofluence.simulator import Provisioning, Simulator

from ..harness import THOROUGH, VIRTUAL, container_spec, now, session_on


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def test_a_given_guess_is_a_distribution() -> None:
    table = ProvisioningEstimate(150).table()
    assert table.cdf[0] == 0
    assert list(table.cdf) == sorted(table.cdf)
    assert table.at(150)[0] == pytest.approx(0.5, abs=0.03)
    assert table.at(60)[0] < 0.08
    assert table.cdf[-1] == pytest.approx(1, abs=0.01)


def test_the_first_guess_has_every_known_time() -> None:
    table = ProvisioningEstimate().table()
    for median in (33, 72, 119, 150, 400):
        assert table.at(median * 1.2)[0] - table.at(median * 0.8)[0] > 0.1
    assert table.cdf[-1] == pytest.approx(1, abs=0.01)


def test_time_lapse_scales_the_estimate() -> None:
    table, lapse = ProvisioningEstimate().table(), ProvisioningEstimate(pace=0.1).table()
    assert lapse.at(15)[0] == pytest.approx(table.at(150)[0])
    assert lapse.after(3, 1) == pytest.approx(table.after(30, 10) / 10)


@pytest.mark.parametrize("true", [20.0, 400.0])
def test_what_is_seen_replaces_the_guess(true: float) -> None:
    estimate = ProvisioningEstimate(150)
    rng = Random(1)
    for _ in range(300):
        time = true * math.exp(rng.gauss(0, 0.1))
        estimate.saw(math.floor(time / 5) * 5, math.floor(time / 5) * 5 + 5)
    table = estimate.table()
    assert table.at(true)[0] == pytest.approx(0.5, abs=0.1)
    assert table.at(true * 0.7)[0] < 0.2
    assert table.at(true * 1.4)[0] > 0.8


@pytest.mark.parametrize("true", [20.0, 50.0, 250.0, 1000.0])
def test_five_sightings_teach_an_unknown_time(true: float) -> None:
    estimate = ProvisioningEstimate()
    for deviation in (-0.1, -0.05, 0.0, 0.05, 0.1):
        time = true * (1 + deviation)
        estimate.saw(time - 4, time + 4)
    table = estimate.table()
    assert table.left(0) == pytest.approx(true, rel=0.1)
    assert table.at(true * 1.3)[0] - table.at(true * 0.7)[0] > 0.7


def test_the_first_of_a_batch_teach_the_rest() -> None:
    estimate = ProvisioningEstimate()
    waiting = [(0.0, 50)]
    assert abs(estimate.table(200, waiting).left(200) + 200 - 250) > 50
    for _ in range(5):
        estimate.saw(225, 230)
    assert estimate.table(230, [(0.0, 45)]).left(230) + 230 == pytest.approx(260, rel=0.1)


def test_two_modes_are_both_kept() -> None:
    estimate = ProvisioningEstimate()
    for time in (33, 119) * 100:  # a third of the VMs of a provider fail, and early
        estimate.saw(time - 4, time + 4)
    table = estimate.table()
    assert table.at(50)[0] == pytest.approx(0.5, abs=0.1)
    assert table.at(100)[0] == pytest.approx(0.5, abs=0.1)
    assert table.left(50) + 50 == pytest.approx(119, abs=6)


def test_a_faster_service_is_noticed() -> None:
    estimate = ProvisioningEstimate(150)
    looks = []
    for _ in range(40):  # one at a time, each ready after 5 s; only the first look finds it
        table = estimate.table()
        then = next_poll(table, [(0.0, 1)], 0.0, 5.0, table.after(0.0, 9.0))
        estimate.saw(0.0, then)
        looks.append(then)
    assert looks[0] > 60
    assert looks[-1] < 25


def test_those_who_still_wait_are_evidence() -> None:
    estimate = ProvisioningEstimate(150)
    alone = estimate.table().undetected(150, 160)
    is_pending = estimate.table(200.0, [(0.0, 1000)])
    # A thousand have lived through 150 to 200 s, and none was ready: it takes longer than was thought.
    assert is_pending.undetected(150, 160) < alone / 10
    assert is_pending.left(200.0) > 20


def test_the_time_left_is_never_nothing() -> None:
    estimate = ProvisioningEstimate()
    for age in (0, 30, 150, 149.9, 1000, 4000, 5000, 10_000):
        assert estimate.table().left(age) > 1
        assert estimate.table(age, [(0.0, 50)]).left(age) > 1


def test_what_was_seen_long_ago_counts_less() -> None:
    estimate = ProvisioningEstimate(150)
    for low in (100.0, 200.0):
        for _ in range(6000):
            estimate.saw(low, low + 5)
    assert estimate.table().at(150)[0] < 0.25
    estimate.saw(50.0, 50.0)  # no interval at all: says nothing
    assert estimate.table().at(150)[0] < 0.25


# Goals: mean lag and requests an instance, until ACTIVE, for five medians with a spread of 10 %

LATER = 1e7


@attrs.frozen
class Drawn(Provisioning):
    """Provisioning times in seconds, one after the other."""

    times: Iterator[float] = attrs.field(kw_only=True)

    def draw(self, rng: Random) -> float:
        return next(self.times)


def simulated(times: list[float]) -> Simulator:
    """A service that provisions in these times, and changes nothing after ACTIVE."""
    drawn = Drawn(median=1.0, start_delay=LATER, network_delay=LATER, times=iter(times))
    return Simulator(balance=10**6, provisioning=drawn)


def spread(median: float, number: int) -> list[float]:
    """Evenly spread quantiles."""
    quantile = NormalDist(0, 0.1).inv_cdf
    return [median * math.exp(quantile((n + 0.5) / number)) for n in range(number)]


async def launch(fluence: Session, simulator: Simulator, name: str = "exp-0") -> float:
    """Seconds from deploy until one instance was handed over."""
    began = now()
    await fluence.deploy_and_wait(container_spec(simulator, name), timeout=None)
    return now() - began


FREE = RateLimit(per_second=10**6, burst=10**6)


@pytest.mark.parametrize(
    ("median", "requests"),
    [(33, 12.0), (72, 12.0), (119, 12.0), (150, 12.0), (400, 25.0)][:: 1 if THOROUGH else 2],
)
async def test_one_alone_in_a_new_session(median: float, requests: float) -> None:
    lags, sent = [], 0
    for time in spread(median, 60):
        simulator = simulated([time])
        async with session_on(simulator, rate=FREE) as fluence:
            lags.append(await launch(fluence, simulator) - time)
        sent += simulator.count() - 1
    assert fmean(lags) <= 5.0
    assert sent / len(lags) <= requests


@pytest.mark.parametrize(
    ("median", "requests"),
    [(33, 1.4), (72, 1.5), (119, 1.6), (150, 1.6), (400, 2.4)][:: 1 if THOROUGH else 2],
)
async def test_fifty_at_once_in_a_new_session(median: float, requests: float) -> None:
    lags, sent = [], 0
    for seed in range(2):
        rng = Random(seed)
        times = [median * math.exp(rng.gauss(0, 0.1)) for _ in range(50)]
        simulator = simulated(times)
        async with session_on(simulator, rate=FREE, max_in_flight=10**4) as fluence:
            took = await asyncio.gather(*(launch(fluence, simulator, f"exp-{n}") for n in range(50)))
        lags.append(fmean(took) - fmean(times))
        sent += simulator.count() - 50
    assert fmean(lags) <= 2.5
    assert sent / len(lags) / 50 <= requests


@pytest.mark.parametrize(("median", "requests"), [(33, 4.0), (150, 6.0), (400, 15.0)])
async def test_one_alone_after_five_others(median: float, requests: float) -> None:
    lags, sent = [], 0
    for seed, time in enumerate(spread(median, 8)):
        rng = Random(seed)
        simulator = simulated([*(median * math.exp(rng.gauss(0, 0.1)) for _ in range(5)), time])
        async with session_on(simulator, rate=FREE) as fluence:
            for _ in range(5):
                await launch(fluence, simulator)
            before = simulator.count()
            lags.append(await launch(fluence, simulator) - time)
        sent += simulator.count() - before - 1
    assert fmean(lags) <= 5.5
    assert sent / len(lags) <= requests


def test_a_time_beyond_all_bins_is_learnt() -> None:
    estimate = ProvisioningEstimate()
    before = estimate.table().at(4400)[0]
    for _ in range(20):
        estimate.saw(4000, 10**5)
    assert estimate.table().at(4400)[0] < before
