"""A shared rate for four processes: `RedisRate`, pyrate-limiter, limits and throttled-py compared.

`python -m benchmarks.shared_rate`, from the checkout. Needs redis-server. Each contender gets an empty Redis
and four new processes. All their tasks want a turn from the start. This is not a test: it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from aiofluence import RateLimit, RedisRate
from aiofluence.http.messages import Priority
from tests.shared_rate.limiters import opened
from tests.shared_rate.server import RedisServer

PROCESSES = 4
TASKS = 50
BURST = 5
Take: TypeAlias = Callable[[], Awaitable[object]]


@asynccontextmanager
async def aiofluence(url: str, rate: int) -> AsyncIterator[Take]:
    async with opened(RedisRate(url, RateLimit(rate, BURST))) as limiter:

        async def take() -> None:
            await limiter.acquire(Priority.AWAITED)
            limiter.release()

        yield take


@asynccontextmanager
async def pyrate_limiter(url: str, rate: int) -> AsyncIterator[Take]:
    from pyrate_limiter import Limiter, Rate, RedisBucket
    from redis.asyncio import from_url

    async with from_url(url) as client:
        bucket = await RedisBucket.init([Rate(rate, 1000)], client, "bench")
        limiter = Limiter(bucket)
        yield lambda: limiter.try_acquire_async("bench", blocking=True)


@asynccontextmanager
async def limits(url: str, rate: int) -> AsyncIterator[Take]:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    storage = RedisStorage(f"async+{url.replace('unix', 'redis+unix')}", implementation="redispy")
    limiter = MovingWindowRateLimiter(storage)
    item = RateLimitItemPerSecond(rate)

    async def take() -> None:  # limits has no method that waits
        while not await limiter.hit(item, "bench"):
            stats = await limiter.get_window_stats(item, "bench")
            await asyncio.sleep(max(0.001, stats.reset_time - time.time()))

    yield take


@asynccontextmanager
async def throttled(url: str, rate: int) -> AsyncIterator[Take]:
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec

    throttle = Throttled(
        key="bench",
        using=RateLimiterType.GCRA.value,
        quota=per_sec(rate, burst=BURST),
        store=RedisStore(server=url),
        timeout=600,
    )
    yield throttle.limit


CONTENDERS: dict[str, tuple[str, Any]] = {
    "aiofluence": ("aiofluence", aiofluence),
    "pyrate-limiter": ("pyrate_limiter", pyrate_limiter),
    "limits": ("limits", limits),
    "throttled-py": ("throttled", throttled),
}


async def work(name: str, url: str, rate: int, tasks: int) -> None:
    """Print "ready", wait for a line, take the turns, and print their times and the CPU spent."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async with CONTENDERS[name][1](url, rate) as take:

        async def one() -> None:
            await take()
            times.append(loop.time())

        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)
        cpu = time.process_time()
        await asyncio.gather(*(one() for _ in range(tasks)))
        cpu = time.process_time() - cpu
    print(json.dumps([times, cpu]))


async def measure(name: str, rate: int, tasks: int) -> str:
    """Return one row of the table."""
    async with RedisServer() as server:
        workers = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.shared_rate"),
                *("--work", name, "--url", server.url, "--rate", str(rate), "--tasks", str(tasks)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            for _ in range(PROCESSES)
        ]
        for worker in workers:
            assert worker.stdout is not None
            await worker.stdout.readline()
        await asyncio.sleep(1)
        before = await calls(server)
        began = asyncio.get_running_loop().time()
        printed = await asyncio.gather(*(worker.communicate(b"go\n") for worker in workers))
        asked = await calls(server) - before
    if any(worker.returncode for worker in workers):
        return f"| {name} | {rate}/s, {PROCESSES} × {tasks} | failed |"
    results = [json.loads(output) for output, _ in printed]
    each = [sorted(times) for times, _ in results]
    turns = sorted(at for times in each for at in times)
    span = turns[-1] - began
    first = min(times[-1] for times in each)
    had = [sum(at <= first for at in times) for times in each]
    burst = BURST if name in ("aiofluence", "throttled-py") else rate  # the others count whole seconds
    cells = (
        f"{rate}/s, {PROCESSES} × {tasks}",
        f"{100 * len(turns) / (rate * span + burst):.1f} %",
        f"{most_in(turns, 1.0)}",
        f"{burst_of(turns, rate):.1f}",
        f"{100 * (1 - min(had) / max(had)):.0f} %",
        f"{asked / len(turns):.2f}",
        f"{1e6 * sum(cpu for _, cpu in results) / len(turns):.0f} µs",
    )
    return f"| {name} | {' | '.join(cells)} |"


async def calls(server: RedisServer) -> int:
    """Return the number of commands that clients have sent and that scripts have run."""
    stats = await server.ask("INFO", "commandstats")
    names = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_zremrangebyscore", "cmdstat_zcard", "cmdstat_lrange")
    return sum(int(stats[name]["calls"]) for name in names if name in stats)


def most_in(turns: list[float], seconds: float) -> int:
    """Return the maximum number of turns in any window of that length."""
    last = most = 0
    for first, start in enumerate(turns):
        while last < len(turns) and turns[last] < start + seconds:
            last += 1
        most = max(most, last - first)
    return most


def burst_of(turns: list[float], rate: int) -> float:
    """Return the smallest burst with which a budget of that rate permits these turns in every window."""
    least = best = float("inf")
    for number, at in enumerate(turns):
        least = min(least, number - rate * at)
        best = max(best if best < float("inf") else 0.0, number + 1 - rate * at - least)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, action="append", help="turns a second; may be given again")
    parser.add_argument("--tasks", type=int, help="tasks per process; default: 50, or as many as take 2.5 s")
    given = parser.parse_args()
    if given.work:
        return asyncio.run(work(given.work, given.url, given.rate[0], given.tasks))
    print("| | turns | of the budget | most in 1 s | as a burst | spread | scripts a turn | CPU a turn |")
    print("|---|---|---|---|---|---|---|---|")
    for rate in given.rate or (20, 160):
        for name, (module, _) in CONTENDERS.items():
            if importlib.util.find_spec(module) is None:
                print(f"| {name} | is not installed |")
                continue
            tasks = given.tasks or max(TASKS, rate * 5 // 8)
            print(asyncio.run(measure(name, rate, tasks)), flush=True)
    return None


if __name__ == "__main__":
    main()
