"""A rate for many sessions, on a real redis-server: the window law, fair parts, refusals, outages.

Real sockets and a real clock, so each test takes seconds; `nox -s servers` runs these tests alone. They
compare the moments at which turns were given, which are exact however slow the machine is.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiofluence import RateLimit, RedisRate, Session
from aiofluence.http.messages import Priority
from aiofluence.http.rate_limit import RateLimiter
from aiofluence.http.redis_rate_limit import _SCRIPT
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator, SimulatorServer

from ..harness import now
from ..http.test_rate_limit import assert_window_law
from .limiters import opened
from .server import HERE, RedisServer

pytestmark = pytest.mark.skipif(
    not HERE, reason="needs pip install redis, and redis-server; on Debian: apt-get install redis-server"
)

# So much burst that a turn is good for half a second: where Redis need not be quick, a busy machine will do.
LIMIT = RateLimit(per_second=20, burst=21)
SECOND = 1.0
BACK = "the shared rate is back"


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@attrs.define
class Turns:
    """Grants of several limiters in order: (loop time, number of the limiter)."""

    all: list[tuple[float, int]] = attrs.field(factory=list)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.all]

    def between(self, start: float, end: float) -> Counter[int]:
        return Counter(number for at, number in self.all if start <= at < end)


@asynccontextmanager
async def sharing(
    server: RedisServer, number: int = 4, limit: RateLimit = LIMIT, share: float = 0.25
) -> AsyncIterator[list[RateLimiter]]:
    """Open `number` limiters that share one rate."""
    async with AsyncExitStack() as stack:
        rate = RedisRate(server.url, limit, share=share)
        yield [await stack.enter_async_context(opened(rate)) for _ in range(number)]


async def take(limiters: list[RateLimiter], each: int, turns: Turns | None = None) -> Turns:
    """Every limiter gets through that many callers, all waiting from the start."""
    turns = turns or Turns()

    async def one(number: int) -> None:
        granted = await limiters[number].acquire(Priority.AWAITED)
        turns.all.append((granted, number))
        limiters[number].release()

    await asyncio.gather(*(one(number) for number in range(len(limiters)) for _ in range(each)))
    return turns


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def hear() -> None:
    """Let the loop run until everybody has read what is in his socket by now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def state(server: RedisServer, field: str) -> str:
    value = await server.ask("HGET", "aiofluence:rate:fluence", field)
    assert isinstance(value, str)
    return value


async def scripts(server: RedisServer) -> int:
    """How often Redis was asked so far."""
    stats = await server.ask("INFO", "commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


# --- one budget ---------------------------------------------------------------------------------------------


async def test_four_processes_share_one_budget(server: RedisServer) -> None:
    tasks = 40
    limit = RateLimit(per_second=40, burst=8)
    arguments = (server.url, str(limit.per_second), str(limit.burst), str(tasks))
    workers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.shared_rate.worker", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    printed = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
    results = [json.loads(output) for output, _ in printed]
    each = [sorted(turns) for turns, _ in results]
    assert [len(times) for times in each] == [tasks] * 4
    assert_window_law(list(itertools.chain(*each)), limit.per_second, limit.burst)
    first = min(times[-1] for times in each)  # when the first of them is through
    had = [sum(at <= first for at in times) for times in each]
    if max(stood_still for _, stood_still in results) < 0.05:  # who has no CPU cannot ask for his part
        assert min(had) >= 0.75 * max(had)


async def test_all_who_want_more_are_served_alike(server: RedisServer) -> None:
    tasks = 40
    async with sharing(server, 4, RateLimit(40, 41)) as limiters:
        turns = await take(limiters, tasks)
    had = Counter[int]()
    for _, number in turns.all:
        had[number] += 1
        if had[number] == tasks:
            break
    assert min(had.values()) >= 0.75 * tasks


@pytest.mark.parametrize("burst", [4, 20])
async def test_the_window_law(server: RedisServer, burst: int) -> None:
    async with sharing(server, limit=RateLimit(30, burst)) as limiters:
        turns = await take(limiters, 10)
        await asyncio.sleep(1.2)  # what was saved up is used, and no more than that
        await take(limiters, 10, turns)
    assert_window_law(turns.times, 30, burst)


async def test_redis_is_not_asked_for_every_turn(server: RedisServer) -> None:
    async with sharing(server, 2, RateLimit(400, 40)) as limiters:
        await take(limiters, 200)
        assert await scripts(server) < 400 / 10


async def test_budgets_of_other_names_are_others(server: RedisServer) -> None:
    rates = [RedisRate(server.url, RateLimit(10, 5), name=name) for name in ("one", "two")]
    async with opened(rates[0]) as one, opened(rates[1]) as two:
        began = now()
        await asyncio.gather(take([one], 12), take([two], 12))
    assert now() - began >= 1.1  # 12 at 10 a second: one alone is no faster
    names = await server.ask("KEYS", "*")
    assert sorted(names) == ["aiofluence:rate:one", "aiofluence:rate:two"]


async def test_urgent_calls_go_first(server: RedisServer) -> None:
    async with sharing(server, 2) as limiters:
        turns = Turns()
        polls = [asyncio.create_task(take(limiters, 15, turns))]
        await until(lambda: len(turns.all) > 5)
        order: list[Priority] = []

        async def one(priority: Priority) -> None:
            await limiters[0].acquire(priority)
            order.append(priority)
            limiters[0].release()

        late = [asyncio.create_task(one(Priority.POLL)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.gather(*(one(Priority.TERMINATE) for _ in range(3)), *late, *polls)
    assert order[:3].count(Priority.TERMINATE) == 3


async def test_no_more_in_flight_than_allowed(server: RedisServer) -> None:
    async with opened(RedisRate(server.url, RateLimit(200, 50)), max_in_flight=3) as limiter:
        flying = most = 0

        async def one() -> None:
            nonlocal flying, most
            await limiter.acquire(Priority.AWAITED)
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(0.02)
            flying -= 1
            limiter.release()

        await asyncio.gather(*(one() for _ in range(40)))
    assert most == 3


async def test_cancellation_loses_no_turn(server: RedisServer) -> None:
    """The grants from Redis are the used ones, and a few that are left at the end."""
    rng = random.Random(1)
    limit = RateLimit(100, 20)
    async with opened(RedisRate(server.url, limit)) as limiter:
        await asyncio.wait_for(limiter.acquire(Priority.AWAITED), 5)
        limiter.release()
        before, used = float(await state(server, "opens")), 0

        async def one(patience: float) -> None:
            nonlocal used
            async with asyncio.timeout(patience):
                await limiter.acquire(Priority.AWAITED)
            used += 1
            limiter.release()

        waits = [one(rng.choice((rng.random(), 60))) for _ in range(200)]
        await asyncio.gather(*waits, return_exceptions=True)
        assert limiter.waiting == 0
        spent = (float(await state(server, "opens")) - before) * limit.per_second
        assert 100 < used < 200
        # `opens` may have jumped ahead by what was saved up of the burst and then lapsed.
        assert spent <= used + limit.burst + 13


async def test_turns_that_nobody_used_in_time_lapse(server: RedisServer) -> None:
    limit = RateLimit(per_second=5, burst=2)
    async with sharing(server, 2, limit) as limiters:
        await take(limiters, 1)
        for _ in range(3):  # each asks, and leaves before its turn comes
            waiting = [asyncio.create_task(limiters[0].acquire(Priority.AWAITED)) for _ in range(2)]
            await asyncio.sleep(0.05)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        await asyncio.sleep(1.5)
        turns = await take(limiters, 4)
    assert_window_law(turns.times, limit.per_second, limit.burst)


async def test_a_cancelled_callers_grant_is_returned(server: RedisServer) -> None:
    async with opened(RedisRate(server.url, RateLimit(2, 10))) as limiter:
        await asyncio.sleep(0.7)  # two turns are saved up, and will come in one answer

        async def first() -> None:
            await limiter.acquire(Priority.AWAITED)
            second.cancel()  # whose turn has come in the same tick

        one, second = asyncio.create_task(first()), asyncio.create_task(limiter.acquire(Priority.AWAITED))
        await asyncio.wait([one, second])
        assert second.cancelled()
        assert limiter.acquire_at_once() is not None  # it is there, and need not be asked for


# --- refused ------------------------------------------------------------------------------------------------


async def test_a_refusal_of_one_pauses_and_slows_all(server: RedisServer) -> None:
    limit = RateLimit(per_second=40, burst=41)
    async with sharing(server, 4, limit) as limiters:
        turns = Turns()
        work = asyncio.create_task(take(limiters, 20, turns))
        await until(lambda: len(turns.all) > 30)
        refused = now()
        for _ in range(20):  # of requests that are out together: one refusal, and its echoes
            limiters[1].refused(refused, SECOND)
        while await state(server, "part") == "1.000000":
            await asyncio.sleep(0.001)
        epoch = await state(server, "epoch")
        await hear()
        heard = now()
        limiters[2].refused(
            refused - 0.2, SECOND / 2
        )  # another's echo: it cuts no more, and lengthens nothing
        await asyncio.sleep(0.05)
        assert await state(server, "epoch") == epoch
        assert await state(server, "part") == "0.500000"
        await work
    assert not turns.between(heard, refused + SECOND)
    after = [at for at in turns.times if at > refused + SECOND]
    assert len(after) > 30
    assert_window_law(after, limit.per_second / 2, 12)  # no burst, but a turn is good for half a second


async def test_an_echo_without_a_pause_changes_nothing(server: RedisServer) -> None:
    """Or every refusal would make the next one an echo, and the rate would never come down far enough."""
    async with sharing(server, 2) as limiters:
        await take(limiters, 1)
        sent = now()
        limiters[0].refused(sent, None)
        while await state(server, "part") != "0.500000":
            await asyncio.sleep(0.001)
        epoch, asked = await state(server, "epoch"), await scripts(server)
        limiters[1].refused(sent - 1, None)
        while await scripts(server) == asked:
            await asyncio.sleep(0.001)
        assert await state(server, "epoch") == epoch


async def test_grants_before_a_refusal_are_void(server: RedisServer) -> None:
    """The answer with the turns was given before the refusal, and comes after the news of it."""
    from redis.asyncio import Redis

    async with sharing(server, 2) as limiters, Redis.from_url(server.url, decode_responses=True) as client:
        await take(limiters, 1)
        script: Any = client.register_script(_SCRIPT)

        async def delayed(**options: Any) -> Any:
            answer = await script(**options)
            limiters[1].refused(now(), None)
            while await state(server, "part") != "0.500000":
                await asyncio.sleep(0.001)
            await hear()
            return answer

        limiter: Any = limiters[0]
        limiter._late = 20.0  # so that they are not too late as well
        await limiter._ask(delayed, 2)
        assert limiter.acquire_at_once() is None
        assert limiter._epoch == await state(server, "epoch")


async def test_success_gives_the_rate_back_to_all(server: RedisServer) -> None:
    async with sharing(server, 2) as limiters:
        await take(limiters, 2)
        limiters[0].refused(now(), None)
        while await state(server, "part") != "0.500000":
            await asyncio.sleep(0.001)
        await hear()
        await take(limiters, 1)
        for limiter in limiters:
            for _ in range(20):
                limiter.succeeded()
        await take(limiters, 2)
        await take(limiters, 2)
        assert await state(server, "part") == "0.900000"


async def test_a_session_is_paused_by_another_ones_429(server: RedisServer) -> None:
    simulator = Simulator()
    simulator.fail("GET /gpu/instances/", Fault.status(429, headers={"Retry-After": "1"}))
    rate = RedisRate(server.url, RateLimit(50, 20))
    async with SimulatorServer(simulator) as service:
        async with (
            Session(DEFAULT_API_KEY, base_url=service.url, rate=rate) as one,
            Session(DEFAULT_API_KEY, base_url=service.url, rate=rate) as two,
        ):
            listing = asyncio.create_task(one.containers.list())
            await until(lambda: bool(simulator.requests))
            while await state(server, "part") == "1.000000":
                await asyncio.sleep(0.001)
            await hear()
            await two.vms.list()
            assert await listing == []
    refused, *later = [request.at for request in simulator.requests]
    assert len(later) == 2
    assert min(later) > refused + 0.99
    # Who asks is the only one: the sessions have hung up.
    while int((await server.ask("INFO", "clients"))["connected_clients"]) > 1:
        await asyncio.sleep(0.01)


async def test_the_how_to_in_the_docs_runs(server: RedisServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert block is not None
    async with SimulatorServer(Simulator()) as service:
        given = {"REDIS_URL": server.url, "FLUENCE_API_KEY": DEFAULT_API_KEY, "FLUENCE_BASE_URL": service.url}
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", block[1]), env=os.environ | given
        )
        assert await run.wait() == 0
        assert service.simulator.requests
    assert await server.ask("KEYS", "*") == ["aiofluence:rate:team-a"]


# --- Redis gone ---------------------------------------------------------------------------------------------


def count(message: str, caplog: pytest.LogCaptureFixture) -> int:
    return [record.message for record in caplog.records].count(message)


async def test_redis_killed_in_the_middle_and_back(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiofluence")
    limit = RateLimit(per_second=40, burst=41)
    async with sharing(server, 4, limit) as limiters:
        turns = Turns()
        work = asyncio.create_task(take(limiters, 40, turns))
        await until(lambda: len(turns.all) > 30)
        killing = now()
        await server.kill()
        await until(lambda: len(caplog.records) >= 4)
        noticed = now()
        await asyncio.sleep(1)
        back = now()
        await server.start()
        await work
    assert not turns.between(noticed, killing + 0.1)  # no burst, even of one each
    for number in range(4):
        alone = [at for at, one in turns.all if one == number and noticed <= at < back]
        assert len(alone) > 1
        assert_window_law(alone, limit.per_second / 4, 1)
    assert_window_law(turns.times, limit.per_second, limit.burst)
    assert count(BACK, caplog) == 4
    messages = [record.message for record in caplog.records]
    assert messages[0] == "no shared rate (ConnectionError): continuing with 25 % of the rate"
    assert len(messages) == 8  # once for each limiter and each change, however often it was tried


async def test_an_empty_redis_gives_no_burst(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "aiofluence")
    limit = RateLimit(per_second=40, burst=120)
    async with sharing(server, 2, limit, share=0.5) as limiters:
        turns = Turns()
        await asyncio.sleep(1)  # so that there is a burst at first
        work = asyncio.create_task(take(limiters, 80, turns))
        waits: list[tuple[float, float]] = []
        for time in range(1, 4):
            had = len(turns.all)
            await until(lambda had=had: len(turns.all) >= had + 10)  # type: ignore[misc]
            await server.kill()
            restarted = now()
            await server.start()
            await until(lambda time=time: count(BACK, caplog) >= 2 * time)  # type: ignore[misc]
            waits.append((now(), restarted + 0.5))
        await work
    for back, opens in waits:
        assert not turns.between(back, opens)  # others may not have noticed yet
    assert_window_law(turns.times, limit.per_second, limit.burst)


async def test_without_redis_a_share_of_the_rate(server: RedisServer) -> None:
    await server.kill()
    async with sharing(server, 1, RateLimit(40, 40), share=0.5) as limiters:
        turns = await take(limiters, 20)
    assert_window_law(turns.times, 20, 1)


async def test_a_redis_that_hangs_is_as_good_as_gone(server: RedisServer) -> None:
    async with sharing(server, 1, RateLimit(40, 40), share=0.5) as limiters:
        await take(limiters, 2)
        await server.ask("CLIENT", "PAUSE", "60000")
        turns = await take(limiters, 20)
    assert_window_law(turns.times[-10:], 20, 1)


async def test_a_refusal_counts_without_redis_too(server: RedisServer) -> None:
    await server.kill()
    async with sharing(server, 1, RateLimit(40, 40), share=0.5) as limiters:
        await take(limiters, 1)
        limiters[0].refused(now(), 0.5)
        began = now()
        turns = await take(limiters, 5)
    assert turns.times[0] - began > 0.49
    assert_window_law(turns.times, 10, 1)


async def test_a_clock_that_is_set_back_stops_nobody(server: RedisServer) -> None:
    async with sharing(server, 1) as limiters:
        await take(limiters, 2)
        for field in ("opens", "seen", "not_before"):  # as if an hour later it had been told the truth
            key = "aiofluence:rate:fluence"
            await server.ask("HSET", key, field, float(await state(server, field)) + 3600)
        async with asyncio.timeout(20):
            await take(limiters, 10)
