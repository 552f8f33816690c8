"""The cost of the rate limiter: one grant, and queues of up to 100,000: `python benchmarks/rate_limiter.py`.

Time per waiter should hardly grow with the queue. A quadratic cost would show as a factor of ten per row. The
waits are on a virtual clock, so the figures are CPU alone. This is not a test: it never fails.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import statistics
import time
from collections.abc import Coroutine
from typing import Any

from aiofluence import RateLimit
from aiofluence.http.messages import Priority
from aiofluence.http.rate_limit import RateLimiter
from aiofluence.simulator import VirtualClockLoop

OPEN = RateLimit(per_second=1e9, burst=1_000_000)
BUSY = RateLimit(per_second=10, burst=20)
ROUNDS = 9
PRIORITIES = list(Priority)


async def uncontended(grants: int) -> float:
    """Return the seconds for one uncontended grant and its release, minus those of an empty coroutine."""
    limiter = RateLimiter(OPEN, max_in_flight=32)

    async def nothing(_: Priority) -> float:
        return 0.0

    began = time.process_time()
    for _ in range(grants):
        await nothing(Priority.AWAITED)
    empty = time.process_time() - began
    began = time.process_time()
    for _ in range(grants):
        await limiter.acquire(Priority.AWAITED)
        limiter.release()
    return (time.process_time() - began - empty) / grants


async def bare_wait(waiters: int) -> float:
    """Return the seconds per task for tasks that each wait for a future, without a rate limiter."""
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(waiters)]

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    began = time.process_time()
    tasks = [asyncio.create_task(wait(future)) for future in futures]
    await asyncio.sleep(0)
    for future in futures:
        future.set_result(None)
    await asyncio.wait(tasks)
    return (time.process_time() - began) / waiters


async def queue(waiters: int, *, cancel: bool) -> float:
    """Return the CPU seconds per waiter until a queue of all priorities is empty. `cancel`: half leave."""
    limiter = RateLimiter(BUSY, max_in_flight=32)

    async def one(priority: Priority) -> None:
        await limiter.acquire(priority)
        limiter.release()

    began = time.process_time()
    tasks = [asyncio.create_task(one(PRIORITIES[number % len(PRIORITIES)])) for number in range(waiters)]
    await asyncio.sleep(0)
    if cancel:
        for task in tasks[::2]:
            task.cancel()
    await asyncio.wait(tasks)
    spent = time.process_time() - began
    assert limiter.waiting == 0
    return spent / waiters


def run(work: Coroutine[Any, Any, float]) -> float:
    """Run `work` on a virtual clock of its own."""
    gc.collect()
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(work)


def main() -> None:
    """Measure and print."""
    print(f"Python {platform.python_version()}, {platform.platform()}; CPU, median of {ROUNDS} rounds\n")
    grants = [run(uncontended(20_000)) for _ in range(ROUNDS)]
    print(f"one grant, uncontended: {statistics.median(grants) * 1e6:.2f} µs\n")
    print("| waiters | drained, µs each | half cancelled, µs each | bare futures, µs each | drained ÷ bare |")
    print("|---|---|---|---|---|")
    for waiters in (1_000, 10_000, 100_000):
        rounds = ROUNDS if waiters < 100_000 else 3
        bare, drained, halved = [], [], []
        for _ in range(rounds):
            bare.append(run(bare_wait(waiters)))
            drained.append(run(queue(waiters, cancel=False)))
            halved.append(run(queue(waiters, cancel=True)))
        ratio = statistics.median(mine / base for mine, base in zip(drained, bare, strict=True))
        figures = (statistics.median(costs) * 1e6 for costs in (drained, halved, bare))
        cells = " | ".join(f"{figure:.1f}" for figure in figures)
        print(f"| {waiters:,} | {cells} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
