"""The defaults of `Retry`, as a session shows them, and which errors leave no doubt."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from aiofluence import RateLimitedError, ReplyError, Retry, ServerError
from aiofluence.simulator import Fault, Simulator

from ..harness import VIRTUAL, container_spec, now, session_on

LIST = "GET /gpu/instances/"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def test_a_call_is_tried_five_times() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(500), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(ServerError, match="after 5 attempts"):
            await fluence.containers.list()
    assert simulator.count(LIST) == 5


@pytest.mark.parametrize("status", [429, 503])
async def test_a_call_is_refused_25_times(status: int) -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(status), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises((RateLimitedError, ServerError)):
            await fluence.containers.list()
    assert simulator.count(LIST) == 25


@pytest.mark.parametrize(("status", "error"), [(429, RateLimitedError), (503, ServerError)])
async def test_two_minutes_are_waited_for_and_no_more(status: int, error: type[Exception]) -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        simulator.fail(LIST, Fault.status(status, b"", {"Retry-After": "120"}))
        began = now()
        assert await fluence.containers.list() == []
        assert 120 <= now() - began < 140
        simulator.fail(LIST, Fault.status(status, b"", {"Retry-After": "121"}))
        began = now()
        with pytest.raises(error):
            await fluence.containers.list()
        assert now() - began < 1


def test_waits_double_from_half_a_second_to_ten() -> None:
    """Each is drawn evenly from zero to a bound, so that the longest of 200 is near the bound."""
    drawn = [list(islice(Retry().waits(), 8)) for _ in range(200)]
    longest = [max(each) for each in zip(*drawn, strict=True)]
    for seconds, bound in zip(longest, [0.5, 1, 2, 4, 8, 10, 10, 10], strict=True):
        assert 0.9 * bound < seconds <= bound
    assert min(min(each) for each in drawn) >= 0


@pytest.mark.parametrize("status", [400, 404, 409, 422, 451, 499])
async def test_a_refusal_of_the_service_is_certain(status: int) -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", Fault.status(status, {"detail": "no"}), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(ReplyError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
    assert caught.value.status == status
    assert [request.operation for request in simulator.requests] == ["POST /gpu/instances/"]


@pytest.mark.parametrize("status", [408, 425, 500, 520])
async def test_any_other_reply_is_uncertain(status: int) -> None:
    simulator = Simulator()
    fault = Fault.status(status, {"detail": "later"})
    simulator.fail("POST /gpu/instances/", fault, when="after")
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]
    assert simulator.count("POST /gpu/instances/") == 1
    assert simulator.count(LIST) >= 1
