"""Laws of the rate limiter on virtual time: window, order, fairness, and no grant lost to a cancellation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from aiofluence import NotSentError, RateLimit, RedisRate, Session
from aiofluence.http.messages import Priority
from aiofluence.http.rate_limit import RateLimiter
from aiofluence.http.redis_rate_limit import _SharedRateLimiter, _Turn
from aiofluence.simulator import Simulator, SimulatorWire, run_virtual

from ..harness import VIRTUAL, now

PRIORITIES = list(Priority)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def pass_through(
    limiter: RateLimiter,
    priority: Priority = Priority.AWAITED,
    *,
    hold: float = 0.0,
    note: Callable[[], object] = lambda: None,
) -> float:
    granted = await limiter.acquire(priority)
    note()
    try:
        await asyncio.sleep(hold)
    finally:
        limiter.release()
    return granted


def assert_window_law(grants: list[float], rate: float, burst: int) -> None:
    """In any window of W seconds at most burst + rate x W grants: for every pair of grants as its ends."""
    grants = sorted(grants)
    for first, start in enumerate(grants):
        for last in range(first, len(grants)):
            allowed = burst + rate * (grants[last] - start)
            assert last - first + 1 <= allowed + 1e-6


arrivals = st.lists(
    st.tuples(
        st.floats(0, 5),  # when it comes
        st.sampled_from(PRIORITIES),
        st.floats(0, 2),  # how long it is in flight
        st.none() | st.floats(0, 3),  # when it is cancelled, if it is
    ),
    min_size=1,
    max_size=60,
)


@given(arrivals, st.floats(0.5, 50), st.integers(1, 10), st.integers(1, 5))
@example([(0.0, Priority.POLL, 0.0, 0.0)] * 30, 10.0, 2, 1)
def test_the_window_law_and_no_lost_turn(plan: Any, rate: float, burst: int, in_flight: int) -> None:
    async def main() -> None:
        limiter = RateLimiter(RateLimit(rate, burst), in_flight)
        grants: list[float] = []
        flying = most = 0

        async def one(at: float, priority: Priority, hold: float, cancel: float | None) -> None:
            nonlocal flying, most
            await asyncio.sleep(at)
            granted = await limiter.acquire(priority)
            grants.append(granted)
            flying += 1
            most = max(most, flying)
            try:
                await asyncio.sleep(hold)
            finally:
                flying -= 1
                limiter.release()

        loop = asyncio.get_running_loop()
        tasks = []
        for at, priority, hold, cancel in plan:
            task = asyncio.ensure_future(one(at, priority, hold, cancel))
            tasks.append(task)
            if cancel is not None:
                loop.call_later(at + cancel, task.cancel)
        # Whoever is not cancelled gets through: a lost turn would leave this waiting for ever.
        async with asyncio.timeout(1000 + len(plan) / rate):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert_window_law(grants, rate, burst)
        assert most <= in_flight
        assert limiter.waiting == 0
        # Nothing leaked: the limiter still lets through as many at once as on its first day.
        await asyncio.sleep(burst / rate + 1)
        await asyncio.gather(*(pass_through(limiter) for _ in range(in_flight)))

    run_virtual(main)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.integers(1, 20)),
        st.tuples(st.just("wait"), st.floats(0, 3)),
        st.tuples(st.just("refuse"), st.none() | st.floats(0, 5)),
        st.tuples(st.just("succeed"), st.integers(1, 60)),
        st.tuples(st.just("cancel"), st.floats(0, 1)),
    ),
    max_size=30,
)


@given(steps, st.integers(0, 2**16))
def test_penalties_and_cancellations_in_any_order(plan: Any, seed: int) -> None:
    """Never before a pause has ended, never faster than the law, never stuck, the rate within bounds."""

    async def main() -> None:
        rng = random.Random(seed)
        limit = RateLimit(10, 5)
        limiter = RateLimiter(limit, 8)
        grants: list[float] = []
        pauses: list[tuple[float, float]] = []
        tasks: list[asyncio.Task[float]] = []

        for step, value in plan:
            if step == "come":
                for _ in range(value):
                    note = lambda: grants.append(now())  # noqa: E731
                    work = pass_through(limiter, rng.choice(PRIORITIES), hold=rng.random(), note=note)
                    tasks.append(asyncio.ensure_future(work))
                await asyncio.sleep(0)
            elif step == "wait":
                await asyncio.sleep(value)
            elif step == "refuse":
                limiter.refused(now(), value)
                pauses.append((now(), now() + (value or 0.0)))
            elif step == "succeed":
                for _ in range(value):
                    limiter.succeeded()
            else:
                for task in tasks:
                    if not task.done() and rng.random() < value:
                        task.cancel()
            assert limit.per_second * 0.02 <= limiter.rate <= limit.per_second
        await asyncio.gather(*tasks, return_exceptions=True)
        assert_window_law(grants, limit.per_second, limit.burst)
        for start, end in pauses:
            assert not [grant for grant in grants if start + 1e-6 < grant < end - 1e-6]
        assert limiter.waiting == 0

    run_virtual(main)


async def test_a_burst_then_the_pace() -> None:
    limiter = RateLimiter(RateLimit(10, 20), 100)
    grants = await asyncio.gather(*(pass_through(limiter) for _ in range(50)))
    assert max(grants[:20]) == 0
    assert grants[20:] == pytest.approx([0.1 * number for number in range(1, 31)])


async def test_default_burst_and_rate() -> None:
    simulator = Simulator()
    async with Session(simulator.api_key, wire=SimulatorWire(simulator)) as fluence:
        await asyncio.gather(*(fluence.containers.list() for _ in range(25)))
    first = simulator.requests[0].at
    sent = [request.at - first for request in simulator.requests]
    assert sent == pytest.approx([0] * 20 + [0.1, 0.2, 0.3, 0.4, 0.5], abs=0.01)


async def test_a_lane_is_first_in_first_out() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 1)
    order: list[int] = []
    await asyncio.gather(*(pass_through(limiter, note=partial(order.append, number)) for number in range(50)))
    assert order == list(range(50))


async def backlog(limiter: RateLimiter, priority: Priority, number: int) -> list[asyncio.Task[float]]:
    tasks = [asyncio.ensure_future(pass_through(limiter, priority)) for _ in range(number)]
    await asyncio.sleep(0.001)
    return tasks


@pytest.mark.parametrize("age", [0, 30])
async def test_a_delete_overtakes_a_backlog_of_polls(age: float) -> None:
    limiter = RateLimiter(RateLimit(10, 1), 8)
    polls = await backlog(limiter, Priority.POLL, 1000)
    await asyncio.sleep(age)
    began = now()
    deletes = await asyncio.gather(*(pass_through(limiter, Priority.TERMINATE) for _ in range(9)))
    assert deletes[0] - began <= 0.2 + 1e-6  # the very next turn, or the one after it
    assert deletes[-1] - began <= 1.2 + 1e-6  # one turn in four goes to whoever has waited longest
    await asyncio.gather(*polls)


async def test_polls_move_under_a_backlog_of_deploys() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 8)
    deploys = await backlog(limiter, Priority.DEPLOY, 10)
    polls = await backlog(limiter, Priority.POLL, 20)
    deploys += await backlog(limiter, Priority.DEPLOY, 1000)
    began = now()
    granted = await asyncio.gather(*polls)
    # A quarter of the turns go to the oldest: first the deploys that stood before the polls, then the polls.
    assert max(granted) - began <= (20 + 10) * 4 / 10 + 1
    assert sum(not deploy.done() for deploy in deploys) > 900
    await asyncio.gather(*deploys)


async def test_a_stream_of_urgent_calls_starves_nobody() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 8)
    tails = await backlog(limiter, Priority.TAIL, 5)
    urgent: list[asyncio.Task[float]] = []
    for _ in range(60):
        urgent += await backlog(limiter, Priority.TERMINATE, 2)  # twice as many as can pass
        await asyncio.sleep(0.1)
    assert all(tail.done() for tail in tails)
    await asyncio.gather(*urgent)


async def test_a_pause_grants_nothing_and_ends_paced() -> None:
    limiter = RateLimiter(RateLimit(10, 20), 100)
    await pass_through(limiter)
    limiter.refused(now(), 7)
    grants = await asyncio.gather(*(pass_through(limiter) for _ in range(10)))
    assert grants[0] == pytest.approx(7)
    assert all(later - earlier == pytest.approx(0.2) for earlier, later in pairwise(grants))


async def test_a_success_in_a_pause_earns_no_burst() -> None:
    limiter = RateLimiter(RateLimit(10, 20), 100)
    for _ in range(16):
        await limiter.acquire(Priority.AWAITED)
    limiter.refused(now(), 60)  # the service let fifteen of them through
    for _ in range(15):
        limiter.release()
        limiter.succeeded()
    grants = await asyncio.gather(*(pass_through(limiter) for _ in range(30)))
    assert grants[0] == pytest.approx(60)
    assert all(later - earlier == pytest.approx(1 / 6.5) for earlier, later in pairwise(grants))


async def test_echoes_of_one_refusal_cut_once() -> None:
    limiter = RateLimiter(RateLimit(10, 20), 100)
    for _ in range(20):
        limiter.refused(0.0, None)  # all were sent before the first refusal came
    assert limiter.rate == 5
    await asyncio.sleep(1)
    limiter.refused(now(), None)
    assert limiter.rate == 2.5
    for _ in range(100):
        await asyncio.sleep(1)
        limiter.refused(now(), None)
    assert limiter.rate == pytest.approx(0.2)  # a floor: never quite still


async def test_the_rate_recovers_slowly() -> None:
    limiter = RateLimiter(RateLimit(10, 20), 100)
    limiter.refused(now(), None)
    for _ in range(25):
        limiter.succeeded()
    assert limiter.rate == pytest.approx(7.5)
    for _ in range(100):
        limiter.succeeded()
    assert limiter.rate == 10


async def test_a_cancelled_callers_grant_is_returned() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 1)
    await limiter.acquire(Priority.AWAITED)
    first = asyncio.ensure_future(limiter.acquire(Priority.AWAITED))
    await asyncio.sleep(1)
    limiter.release()  # grants `first` its turn, in the same tick in which it is cancelled
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    began = now()
    assert await pass_through(limiter) == began  # neither the slot nor the token was lost


async def test_a_recovering_rate_shortens_the_wait() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 5)
    limiter.refused(await limiter.acquire(Priority.AWAITED), 0)  # 5 a second from now on
    began = await limiter.acquire(Priority.AWAITED)
    waiting = asyncio.ensure_future(limiter.acquire(Priority.AWAITED))
    await asyncio.sleep(0)
    for _ in range(100):
        limiter.succeeded()
    limiter.release()
    assert await waiting == pytest.approx(began + 0.1)


async def test_a_release_as_all_waiters_are_cancelled() -> None:
    """As when a task group ends: the request under way gives back its place before the rest has noticed."""
    limiter = RateLimiter(RateLimit(10, 5), 1)
    await limiter.acquire(Priority.AWAITED)
    waiting = await backlog(limiter, Priority.POLL, 3)
    for task in waiting:
        task.cancel()
    limiter.release()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)
    assert limiter.waiting == 0
    began = now()
    assert await pass_through(limiter) == began


async def test_cancelled_waiters_do_not_pile_up() -> None:
    limiter = RateLimiter(RateLimit(10, 1), 1)
    limiter.refused(now(), 100)
    for _ in range(50):
        tasks = await backlog(limiter, Priority.POLL, 100)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert limiter.waiting == 0
    assert sum(map(len, limiter._queues)) < 300


@pytest.mark.parametrize("early", [0.0, 5e-10, 2e-9, 0.0156])
async def test_an_early_timer_loses_no_waiter(early: float) -> None:
    """Whatever the clock's resolution is; and there is no turn in hand when the pause ends."""
    limiter = _SharedRateLimiter(RedisRate("redis://127.0.0.1:1", RateLimit(10, 20)), 4)
    limiter._shared = True  # as while Redis is asked for turns
    limiter._not_before = now() + 100
    waiter = asyncio.ensure_future(limiter.acquire(Priority.AWAITED))
    await asyncio.sleep(100 - early)
    limiter._serve(asyncio.get_running_loop())
    assert not waiter.done()
    await asyncio.sleep(0.1)
    assert limiter._wake.is_set()  # turns are asked for
    limiter._turns.append(_Turn(now(), now() + 1, ""))
    limiter._serve(asyncio.get_running_loop())
    await waiter
    limiter.release()
    assert (limiter.waiting, limiter._free) == (0, 4)


async def test_closing_tells_everybody() -> None:
    limiter = RateLimiter(RateLimit(1, 1), 1)
    await limiter.acquire(Priority.AWAITED)
    waiting = await backlog(limiter, Priority.POLL, 10)
    waiting[3].cancel()
    limiter.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [
        asyncio.CancelledError if number == 3 else NotSentError for number in range(10)
    ]
    assert limiter.waiting == 0
    with pytest.raises(NotSentError, match="closed"):
        await limiter.acquire(Priority.TERMINATE)
    limiter.release()


async def test_a_free_limiter_grants_at_once() -> None:
    limiter = RateLimiter(RateLimit(1, 1), 2)
    assert limiter.acquire_at_once() == now()
    assert limiter.acquire_at_once() is None
    waiting = await backlog(limiter, Priority.POLL, 1)
    await asyncio.sleep(1)
    assert await waiting[0]


async def test_each_fourth_grant_goes_to_the_oldest() -> None:
    gate = RateLimiter(RateLimit(1, 1), 8)
    await gate.acquire(Priority.POLL)
    order: list[Priority] = []
    tasks = []
    for priority in [*[Priority.POLL] * 3, *[Priority.TERMINATE] * 9]:
        note = partial(order.append, priority)
        tasks.append(asyncio.ensure_future(pass_through(gate, priority, note=note)))
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    assert [place for place, priority in enumerate(order, 1) if priority is Priority.POLL] == [4, 8, 12]


async def test_a_refusal_between_grant_and_send() -> None:
    """The grant is returned, with its place among the requests in flight, and is due after the pause."""
    limiter = RateLimiter(RateLimit(1, 1), 1)
    await limiter.acquire(Priority.POLL)
    limiter.release()
    began = now()
    waiting = asyncio.ensure_future(limiter.acquire(Priority.POLL))
    await asyncio.sleep(0)  # the timer of the limiter comes first
    asyncio.get_running_loop().call_at(began + 1, limiter.refused, began + 0.5, 10.0)
    async with asyncio.timeout(60):
        assert await waiting == pytest.approx(began + 11)
        limiter.release()
        await limiter.acquire(Priority.POLL)


async def test_sessions_of_work_in_waves() -> None:
    """Five hundred waiters, half of them cancelled, a penalty: the rest get through, DELETEs first."""
    limiter = RateLimiter(RateLimit(50, 10), 16)
    rng = random.Random(1)
    grants: list[tuple[float, Priority]] = []

    def one(priority: Priority) -> Coroutine[Any, Any, float]:
        return pass_through(
            limiter, priority, hold=rng.random() / 5, note=lambda: grants.append((now(), priority))
        )

    tasks = [asyncio.ensure_future(one(rng.choice(PRIORITIES))) for _ in range(500)]
    await asyncio.sleep(0.5)
    cancelled = rng.sample(tasks, 250)
    for task in cancelled:
        task.cancel()
    limiter.refused(now(), 2)
    await asyncio.wait(tasks)
    gone = sum(task.cancelled() for task in tasks)
    assert len(grants) >= 500 - gone
    assert_window_law([at for at, _ in grants], 50, 10)
    after = [priority for at, priority in grants if at > 2.5]
    last_delete = max(index for index, priority in enumerate(after) if priority is Priority.TERMINATE)
    assert last_delete <= after.count(Priority.TERMINATE) * 4 / 3 + 2


async def test_an_outage_holds_back_the_queue() -> None:
    limiter = RateLimiter(RateLimit(100, 50), 100)
    tries: list[float] = []

    async def one(opens: float) -> None:
        while True:
            granted = await limiter.acquire(Priority.AWAITED)
            limiter.release()
            if granted >= opens:
                limiter.succeeded()
                return
            tries.append(granted)
            limiter.unreachable(granted)

    await asyncio.gather(*(one(3.0) for _ in range(500)))
    assert len(tries) < 100  # the burst finds out together; after that, few at a time
    assert 8 < now() < 10  # three seconds without anybody, then 500 at 100 a second

    began = now()
    while now() - began < 60.5:  # a minute without anybody
        granted = await limiter.acquire(Priority.AWAITED)
        limiter.release()
        limiter.unreachable(granted)
    began = now()
    await limiter.acquire(Priority.AWAITED)
    assert now() - began < 2.1
    before = now()
    limiter.unreachable(before)
    limiter.release()
    assert await pass_through(limiter) == pytest.approx(before, abs=0.05)  # they may fail now, at full pace
