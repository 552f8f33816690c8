"""Nothing is left behind: whoever is cancelled, whenever, the ledger shows nothing live after the close."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from aiofluence import ConfigError, CustodyError, Session
from aiofluence.simulator import Fault, Provisioning, Simulator, run_virtual

from .harness import VIRTUAL, container_spec, session_on

SLOW = Provisioning(median=150, sigma=0.0)


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def in_running(fluence: Session, simulator: Simulator) -> None:
    async with fluence.running(container_spec(simulator)):
        await asyncio.sleep(5)


async def in_deploy_and_wait(fluence: Session, simulator: Simulator) -> None:
    await fluence.deploy_and_wait(container_spec(simulator))
    # The caller has it now: what it does with it is its own business.
    raise _HandedOverError


class _HandedOverError(Exception):
    pass


@pytest.mark.parametrize("use", [in_deploy_and_wait, in_running])
@pytest.mark.parametrize("fault", [None, "after", "before"])
def test_cancelled_at_every_tick_nothing_is_left(
    use: Callable[[Session, Simulator], Awaitable[None]], fault: Any
) -> None:
    """Cancels the caller at its n-th step, for every n until it gets through."""

    async def run(ticks: int) -> bool:
        simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
        if fault is not None:
            simulator.fail("POST /gpu/instances/", Fault.reset(), when=fault)
        through = False
        async with session_on(simulator, close_timeout=900) as fluence:
            task = asyncio.ensure_future(use(fluence, simulator))
            loop = asyncio.get_running_loop()
            # A tick is a turn of the loop in which something happened; time jumps in between.
            for _ in range(ticks):
                if task.done():
                    break
                await _tick(loop)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            through = result is None or isinstance(result, _HandedOverError)
            assert through or isinstance(result, asyncio.CancelledError), result
        if isinstance(result, _HandedOverError):
            assert len(simulator.live()) == 1
        else:
            assert simulator.live() == []
            assert simulator.reserved() == 0
        return through

    ticks = 0
    while not run_virtual(lambda n=ticks: run(n)):  # type: ignore[misc]
        ticks += 1
    assert ticks > 6


async def _tick(loop: asyncio.AbstractEventLoop) -> None:
    """Let everything that is ready run; if nothing is, go to the next timer."""
    await asyncio.sleep(0)
    if not loop._ready and loop._scheduled:  # type: ignore[attr-defined]
        pending = [timer.when() for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if pending:
            await asyncio.sleep(max(0.0, min(pending) - loop.time()))


async def test_a_failing_sibling_in_a_task_group() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                for number in range(9):
                    group.create_task(fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}")))

                async def fail() -> None:
                    await asyncio.sleep(40)
                    raise ZeroDivisionError

                group.create_task(fail())
        assert caught.group_contains(ZeroDivisionError)
        assert len(simulator.live()) == 9
    assert len(simulator.instances()) == 9
    assert simulator.live() == []


async def test_timeouts_of_the_caller() -> None:
    simulator = Simulator(provisioning=SLOW)
    async with session_on(simulator) as fluence:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await fluence.deploy_and_wait(container_spec(simulator, "exp-1"))
        with anyio.move_on_after(30):
            await fluence.deploy_and_wait(container_spec(simulator, "exp-2"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fluence.deploy_and_wait(container_spec(simulator, "exp-3")), 30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(200), fluence.running(container_spec(simulator, "exp-4")):
                await asyncio.sleep(1000)
        assert task.cancelling() == 0
    assert len(simulator.instances()) == 4
    assert simulator.live() == []


async def test_the_clean_up_survives_faults() -> None:
    simulator = Simulator(provisioning=Provisioning(median=20, sigma=0.0))
    async with session_on(simulator, close_timeout=3000) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
        simulator.random_faults(0.4, seed=3)
    assert simulator.live() == []


async def test_a_failed_instance_needs_no_delete() -> None:
    simulator = Simulator(provisioning=SLOW)
    simulator.fail_next_provisioning()
    async with session_on(simulator) as fluence:
        with anyio.move_on_after(5):
            await fluence.deploy_and_wait(container_spec(simulator))
    assert simulator.count("DELETE /gpu/instances/{id}") == 0
    assert simulator.live() == []


async def test_what_is_left_at_the_end_is_said() -> None:
    simulator = Simulator(provisioning=SLOW)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(CustodyError, match="may still be running") as caught:
        async with session_on(simulator, close_timeout=60) as fluence:
            with anyio.move_on_after(5):
                await fluence.deploy_and_wait(container_spec(simulator))
    assert loop.time() - began == pytest.approx(65, abs=1)
    assert [ref.id for ref in caught.value.refs] == [instance.id for instance in simulator.live()]


async def test_a_key_that_is_revoked_meanwhile_leaves_a_report() -> None:
    simulator = Simulator(provisioning=SLOW)
    with pytest.raises(CustodyError, match="revoked") as caught:
        async with session_on(simulator) as fluence:
            for number in range(3):
                with anyio.move_on_after(5):
                    await fluence.deploy_and_wait(container_spec(simulator, f"exp-{number}"))
            simulator.fail("*", Fault.status(401, {"detail": "revoked"}), times=None)
    assert {ref.name for ref in caught.value.refs} == {"exp-0", "exp-1", "exp-2"}


async def test_the_close_of_a_cancelled_program_finishes_the_clean_up() -> None:
    simulator = Simulator(provisioning=SLOW)

    async def use() -> None:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))

    task = asyncio.ensure_future(use())
    await asyncio.sleep(10)
    task.cancel()
    await asyncio.sleep(10)
    assert not task.done()
    await asyncio.wait([task])
    assert task.cancelled()
    assert simulator.live() == []


async def test_leaving_at_once_is_not_leaving_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(provisioning=SLOW)

    async def use() -> None:
        async with session_on(simulator) as fluence:
            await fluence.deploy_and_wait(container_spec(simulator))

    task = asyncio.ensure_future(use())
    for _ in range(2):  # Ctrl-C, twice
        await asyncio.sleep(10)
        task.cancel()
    await asyncio.wait([task])
    (live,) = simulator.live()
    assert live.id in caplog.text
    assert "may still be running" in caplog.text


def test_close_timeout_is_a_number_of_seconds() -> None:
    with pytest.raises(ConfigError):
        Session("key", close_timeout=-1)
    with pytest.raises(ConfigError):
        Session("key", max_in_flight=0)
