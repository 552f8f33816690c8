"""One of several processes with one rate: `python -m tests.shared_rate.worker URL PER_SECOND BURST TASKS`.

Says "ready", begins when a line comes on stdin, and prints the loop time of each turn it got: on one machine
all processes' loops read the same clock.
"""

from __future__ import annotations

import asyncio
import sys

from aiofluence import RateLimit, RedisRate
from aiofluence.protocol import Lane

from .gates import opened


async def main(url: str, per_second: str, burst: str, tasks: str) -> None:
    rate = RedisRate(url, RateLimit(float(per_second), int(burst)))
    async with opened(rate) as gate:

        async def one() -> None:
            granted = await gate.acquire(Lane.AWAITED)
            gate.release()
            print(granted, flush=True)

        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await asyncio.gather(*(one() for _ in range(int(tasks))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
