"""Tails through real sockets: what they leave open when they are left, and that text arrives as it was."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from aiofluence import LogLine, Poll, Until
from aiofluence.simulator import ClusterOptions, Fault, Provisioning, Simulator

from ..harness import container_spec, session_over_http

NASTY = [
    "\x1b[2J\x1b]0;title\x07",
    "50%\r100%",
    "abc\u202egpj.exe\u2066",
    "zero\u200bwidth\ufeff",
    "\x00\x7f",
    "模型",
]
INSTANT = Provisioning(0, 0, start_delay=0, network_delay=0, domain_delay=0)


async def test_a_tail_left_in_any_way_leaves_nothing() -> None:
    simulator = Simulator(cluster=ClusterOptions(log_interval=None), provisioning=INSTANT)
    async with session_over_http(simulator, poll=Poll(interval=0.1)) as session:
        async with session.running(container_spec(simulator), until=Until.READY) as container:
            simulator.print(container.id, *NASTY)
            tasks = client_tasks()

            got = []
            async for item in session.tail_logs(container):
                assert isinstance(item, LogLine)
                got.append(item.text)
                if len(got) == len(NASTY):
                    break  # left by break, and dropped
            assert got == NASTY

            simulator.fail("GET /gpu/instances/{id}/logs", Fault.hang(), times=3)
            held = session.tail_logs(container)
            try:
                async with asyncio.timeout(0.05):  # in the middle of a request
                    await anext(held)
            except TimeoutError:
                pass
            reader = asyncio.create_task(anext(held))
            await asyncio.sleep(0.05)
            await held.aclose()  # in the middle of a request, from another task
            assert isinstance((await asyncio.gather(reader, return_exceptions=True))[0], StopAsyncIteration)

            dropped = asyncio.create_task(anext(session.tail_logs(container)))
            await asyncio.sleep(0.05)
            dropped.cancel()
            await asyncio.wait([dropped])
            del dropped, reader, held
            gc.collect()
            await asyncio.sleep(0)
            assert client_tasks() == tasks


def client_tasks() -> set[asyncio.Task[Any]]:
    """Those that are not the server's, which lives in the same loop."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" not in repr(task.get_coro())}
