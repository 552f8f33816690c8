from __future__ import annotations

import asyncio
import time

import pytest

from aiofluence.simulator import VirtualClockLoop, run_virtual


def test_hours_pass_in_no_time_and_in_order() -> None:
    order: list[tuple[float, int]] = []

    async def worker(number: int, pause: float) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await asyncio.sleep(pause)
            order.append((loop.time(), number))

    async def main() -> float:
        async with asyncio.TaskGroup() as group:
            for number in range(1, 101):
                group.create_task(worker(number, number * 60.0))
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run_virtual(main) == pytest.approx(60_000.0)
    assert time.perf_counter() - began < 20.0
    assert [at for at, _ in order] == sorted(at for at, _ in order)
    assert len(order) == 1000


def test_coroutines_functions_and_their_errors() -> None:
    async def fails() -> None:
        async with asyncio.timeout(3600.0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_virtual(fails)
    with pytest.raises(TimeoutError):
        run_virtual(fails())


def test_what_is_ready_goes_first() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        loop.call_later(10.0, seen.append, "timer")
        for _ in range(100):
            await asyncio.sleep(0)
            assert loop.time() == 0.0
        await asyncio.sleep(10.0)
        return seen

    assert run_virtual(main) == ["timer"]


def test_without_a_timer_it_waits_for_the_outside() -> None:
    async def main() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: "done")

    assert run_virtual(main) == "done"


def test_a_thread_takes_no_virtual_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(0.01):
            await asyncio.to_thread(time.sleep, 0.05)
        assert loop.time() == 0.0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60.0):
                await asyncio.Event().wait()
        return loop.time()

    assert run_virtual(main) == 60.0


def test_sockets_within_the_loop_work() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert run_virtual(main) == b"hello"


def test_a_loop_starts_at_zero() -> None:
    loop = VirtualClockLoop()
    try:
        assert loop.time() == 0.0
        loop.run_until_complete(asyncio.sleep(5.0))
        assert loop.time() == 5.0
    finally:
        loop.close()
