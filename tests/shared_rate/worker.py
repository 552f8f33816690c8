"""A process that shares its rate: `python -m tests.shared_rate.worker URL PER_SECOND BURST TASKS`.

Says "ready", begins when a line comes on stdin, and prints a JSON list: the loop time of each turn it got (on
one machine all processes' loops read the same clock), and the longest time for which it stood still.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiofluence import RateLimit, RedisRate
from aiofluence.http.messages import Priority

from .limiters import opened

TICK = 0.01


async def main(url: str, per_second: str, burst: str, tasks: str) -> None:
    rate = RedisRate(url, RateLimit(float(per_second), int(burst)))
    async with opened(rate) as limiter:

        async def one() -> float:
            granted = await limiter.acquire(Priority.AWAITED)
            limiter.release()
            return granted

        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        stalls = [0.0]
        watch = asyncio.create_task(watch_loop(stalls))
        turns = await asyncio.gather(*(one() for _ in range(int(tasks))))
        watch.cancel()
        print(json.dumps([turns, max(stalls)]))


async def watch_loop(stalls: list[float]) -> None:
    """Note by how much the loop wakes a sleeper too late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        stalls.append(loop.time() - due)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
