"""A DELETE that is refused until a machine has run for 20 minutes: waited out, and nothing is left running.

The refusals are faults on the simulator's DELETE, with texts that name the time left or do not. Virtual time.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from aiofluence import Reply, Request, Session, WaitTimeoutError
from aiofluence.cli.clean_up import CleanUp
from aiofluence.models.spending import estimate_spend
from aiofluence.simulator import DEFAULT_API_KEY, LIKELY, Simulator, SimulatorWire

from ..harness import FAST, VIRTUAL, now, session_on, vm_spec

MINIMUM = 20 * 60.0


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


class MinimumWire:
    """The simulator, whose DELETE is refused until 20 minutes after the first one."""

    def __init__(self, simulator: Simulator, text: Callable[[float], str]) -> None:
        self._inner = SimulatorWire(simulator)
        self._text = text
        self._begun: float | None = None
        self.deletes = 0

    async def send(self, request: Request) -> Reply:
        if request.method == "DELETE":
            self.deletes += 1
            self._begun = now() if self._begun is None else self._begun
            left = self._begun + MINIMUM - now()
            if left > 0:
                return Reply(400, {}, json.dumps({"detail": self._text(left)}).encode())
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


TEXTS: dict[str, Callable[[float], str]] = {
    "names the time left": lambda left: f"Minimum runtime not met: {left:.0f} seconds remaining",
    "names the minimum": lambda _: "Minimum runtime of 20 minutes not met",
    "names nothing": lambda _: "Minimum runtime not met",
    "promises a year": lambda _: "Minimum runtime not met, try again in 8760 hours",
    "promises a moment": lambda _: "Minimum runtime not met, try again in 0 seconds",
}


@pytest.mark.parametrize("text", TEXTS)
async def test_the_minimum_runtime_is_waited_out(text: str) -> None:
    simulator = Simulator()
    wire = MinimumWire(simulator, TEXTS[text])
    async with Session(DEFAULT_API_KEY, wire=wire, rate=FAST) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        began = now()
        await fluence.terminate_and_wait(machine, timeout=2400)
        took = now() - began
    assert simulator.live() == []
    assert MINIMUM <= took < MINIMUM + 300
    assert wire.deletes <= (8 if text == "names the time left" else 60)


@pytest.mark.parametrize("text", TEXTS)
async def test_a_close_waits_for_the_minimum(text: str) -> None:
    simulator = Simulator()
    async with Session(DEFAULT_API_KEY, wire=MinimumWire(simulator, TEXTS[text]), rate=FAST) as fluence:
        with pytest.raises(WaitTimeoutError):
            await fluence.deploy_and_wait(vm_spec(simulator), timeout=5)
        assert len(simulator.live()) == 1
    assert simulator.live() == []


# What is said meanwhile, on LIKELY


def lines(caplog: pytest.LogCaptureFixture, module: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.module == module]


async def test_one_warning_has_the_time_left(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(profile=LIKELY)
    async with session_on(simulator) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator, "vm-3"))
        ending = asyncio.create_task(fluence.terminate_and_wait(machine, timeout=2400))
        await asyncio.sleep(30)
        (line,) = lines(caplog, "minimum_runtime")
        assert line.startswith("vm-3: the service ends it only after 20 minutes of runtime, about 19:")
        assert line.endswith(" left; billed until then")
        await ending
    assert lines(caplog, "minimum_runtime") == [line]
    assert simulator.live() == []


async def test_a_vague_refusal_has_the_longest_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator(profile=LIKELY.replace(minimum_runtime_text="plain"))
    async with session_on(simulator) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        await asyncio.sleep(600)
        await fluence.terminate_and_wait(machine, timeout=2400)
    (line,) = lines(caplog, "minimum_runtime")
    assert re.search(r"at most \d+:\d\d left", line)
    assert simulator.live() == []


async def test_many_are_announced_together(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator(profile=LIKELY)
    simulator.set_balance(1000)
    async with session_on(simulator) as fluence:
        report = await fluence.deploy_all_and_wait(vm_spec(simulator, "vm-{i}").many(10))
        await asyncio.gather(
            *(fluence.terminate_and_wait(machine, timeout=2400) for machine in report.instances)
        )
    (line,) = lines(caplog, "minimum_runtime")
    assert re.match(r"vm-\d and 9 more: the service ends them only after 20 minutes of runtime, about", line)
    assert simulator.live() == []


async def test_a_cancelled_batch_counts_its_refusals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    simulator = Simulator(profile=LIKELY)
    simulator.set_balance(1000)
    async with session_on(simulator) as fluence:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await fluence.deploy_all_and_wait(vm_spec(simulator, "vm-{i}").many(20))
    assert simulator.live() == []
    told = "the service ends 20 only after 20 minutes"
    progress = [line for line in lines(caplog, "custody") if told in line]
    assert progress
    left = [re.search(r"about (\d+):(\d\d) left", line) for line in progress]
    seconds = [int(match[1]) * 60 + int(match[2]) for match in left if match]
    assert len(seconds) == len(progress)
    assert seconds == sorted(seconds, reverse=True)
    assert 900 < seconds[0] <= 1260
    announced = lines(caplog, "minimum_runtime")
    assert 1 <= len(announced) <= 6
    more = [re.search(r"and (\d+) more", line) for line in announced]
    assert len(announced) + sum(int(match[1]) for match in more if match) == 20


async def test_custody_has_refusals_and_the_time_left() -> None:
    simulator = Simulator(profile=LIKELY)
    async with session_on(simulator) as fluence:
        with pytest.raises(WaitTimeoutError):
            await fluence.deploy_and_wait(vm_spec(simulator), timeout=5)
        await asyncio.sleep(400)
        custody = fluence.custody
        assert [ref.name for ref in custody.refused] == ["vm-1"] == [ref.name for ref in custody.ending]
        (instance,) = simulator.live()
        assert custody.seconds_left == pytest.approx(instance.active_at + MINIMUM - now(), abs=70)
        assert (
            "the service ends 1 only after 20 minutes of runtime"
            in CleanUp(lambda: custody, lambda: True).line()
        )
    assert fluence.custody.refused == ()
    assert simulator.live() == []


# The bill


async def test_an_estimate_has_the_hours_of_the_minimum() -> None:
    simulator = Simulator(profile=LIKELY)
    async with session_on(simulator) as fluence:
        await fluence.vms.list()  # simulated time begins
        await asyncio.sleep((simulator.time.replace(minute=50, second=0) - simulator.time).total_seconds())
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        assert machine.billing.next_billing_period is not None
        hourly = machine.billing.hourly_usage
        with pytest.raises(WaitTimeoutError) as raised:
            await fluence.terminate_and_wait(machine, timeout=60)
        assert estimate_spend(machine, simulator.time) == 2 * hourly
        assert simulator.time.hour == machine.created_at.hour  # the second hour has not begun
        ended = await fluence.terminate_and_wait(machine, timeout=2400)
        assert ended is not None
        assert ended.billing.total_spendings == pytest.approx(2 * hourly, abs=Decimal("0.02"))
        assert raised.value.estimated_spend in (None, 2 * hourly)
    assert simulator.live() == []
