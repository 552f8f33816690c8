"""Rate limiters without a session around them: opened, and closed as a session would close them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiofluence import RedisRate
from aiofluence.http.rate_limit import RateLimiter


@asynccontextmanager
async def opened(rate: RedisRate, max_in_flight: int = 32) -> AsyncIterator[RateLimiter]:
    """A rate limiter of `rate`, with its task."""
    limiter = rate.limiter(max_in_flight)
    tasks: list[asyncio.Task[None]] = []
    limiter.open(lambda work: tasks.append(asyncio.create_task(work)))
    try:
        yield limiter
    finally:
        limiter.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
