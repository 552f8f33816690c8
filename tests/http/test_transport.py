"""The one loop: retries, budgets, deadlines, pauses, and what is told when it all fails.

On virtual time, against scripted faults; N is what the simulator saw.
"""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest

from aiofluence import (
    ContainerUpdate,
    DecodeError,
    Kind,
    NoReplyError,
    NotSentError,
    RateLimit,
    RateLimitedError,
    Reply,
    Retry,
    ServerError,
    Session,
    Status,
    Timeout,
)
from aiofluence.http.messages import Call, Request, Retryable
from aiofluence.http.retry import RetryBudget
from aiofluence.resources.endpoints import Endpoints
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Simulator

from ..harness import FAST, OTHER_IMAGE, VIRTUAL, container_spec, now, session_on, transport_on, vm_spec

LIST = "GET /gpu/instances/"
GET = "GET /gpu/instances/{id}"
PUT = "PUT /gpu/instances/{id}"
DELETE = "DELETE /gpu/instances/{id}"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.mark.parametrize(
    "fault",
    [
        Fault.reset(),
        Fault.cut(),
        Fault.refuse(),
        Fault.status(429),
        *(Fault.status(code) for code in (500, 502, 503, 504)),
    ],
    ids=lambda fault: f"{fault.effect.value}-{fault.code}",
)
async def test_a_get_is_tried_again(fault: Fault) -> None:
    simulator = Simulator()
    simulator.fail(LIST, fault, times=3)
    async with session_on(simulator) as fluence:
        assert await fluence.containers.list() == []
    refused = fault.effect.value == "refuse"
    assert simulator.count(LIST) == (1 if refused else 4)


async def test_attempts_end_and_are_on_the_error() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(502), times=None)
    async with session_on(simulator, retry=Retry(attempts=3)) as fluence:
        with pytest.raises(ServerError, match="after 3 attempts") as caught:
            await fluence.containers.list()
    assert simulator.count(LIST) == 3
    attempts = caught.value.attempts
    assert [type(attempt.error) for attempt in attempts] == [ServerError] * 3
    assert attempts[-1].error is caught.value
    assert attempts[-1].waited == 0
    assert all(attempt.seconds > 0 for attempt in attempts)
    assert caught.value.call == LIST


async def test_a_service_error_raises_no_rate() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(429))
    simulator.fail(LIST, Fault.status(500), times=None)
    rate = RateLimit(per_second=10, burst=1)
    async with session_on(simulator, rate=rate, retry=Retry(attempts=1)) as fluence:
        for _ in range(60):  # the 429 halves the rate, and 50 successes would restore it
            with pytest.raises((RateLimitedError, ServerError)):
                await fluence.containers.list()
    times = [request.at for request in simulator.requests]
    assert times[-1] - times[-2] == pytest.approx(0.2, abs=0.01)


async def test_a_call_without_a_reply_is_named() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.reset(), times=None)
    async with session_on(simulator, retry=Retry(attempts=1)) as fluence:
        with pytest.raises(NoReplyError) as caught:
            await fluence.containers.list()
    assert caught.value.call == LIST


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 409, 422, 307])
async def test_an_answer_is_not_argued_with(code: int) -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(code), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(Exception, match=str(code)):
            await fluence.containers.list()
    assert simulator.count(LIST) == 1


async def test_a_timeout_counts_as_sent() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.hang(), times=None)
    async with session_on(simulator, timeout=Timeout(total=5), retry=Retry(attempts=2)) as fluence:
        began = now()
        with pytest.raises(NoReplyError) as caught:
            await fluence.containers.list()
        assert 10 <= now() - began < 12
    assert isinstance(caught.value, TimeoutError)
    assert simulator.count(LIST) == 2


async def test_a_refused_connection_repeats_a_post() -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", Fault.refuse(), times=2)
    async with session_on(simulator) as fluence:
        await fluence.containers.deploy(container_spec(simulator))
    assert simulator.count("POST /gpu/instances/") == 1
    assert len(simulator.live()) == 1


async def test_a_lasting_refusal_is_not_sent() -> None:
    simulator = Simulator()
    simulator.fail("*", Fault.refuse(), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(NotSentError) as caught:
            await fluence.containers.deploy(container_spec(simulator))
    assert len(caught.value.attempts) == Retry().attempts
    assert simulator.requests == []


@pytest.mark.parametrize("fault", [Fault.reset(), Fault.status(500), Fault.status(502), Fault.cut()])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_bare_post_is_never_sent_twice(fault: Fault, when: Any) -> None:
    simulator = Simulator()
    simulator.fail("POST /gpu/instances/", fault, times=None, when=when)
    async with session_on(simulator) as fluence:
        with pytest.raises((NoReplyError, ServerError)):
            await fluence.containers.post(container_spec(simulator))
    assert simulator.count("POST /gpu/instances/") == 1


async def test_a_delete_looks_before_it_repeats() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        looks = simulator.count(GET)
        simulator.fail(DELETE, Fault.reset(), when="after")
        await fluence.containers.terminate(container.id)
        assert simulator.count(DELETE) == 1
        assert simulator.count(GET) == looks + 1

        other = await fluence.deploy_and_wait(container_spec(simulator, "exp-2"))
        simulator.fail(DELETE, Fault.status(502), times=2)
        await fluence.containers.terminate(other.id)
        assert simulator.count(DELETE) == 4
    assert simulator.live() == []


async def test_a_put_looks_before_it_repeats() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        machine = await fluence.deploy_and_wait(vm_spec(simulator))
        rename = "PUT /gpu/instances/vms/{id}"
        simulator.fail(rename, Fault.reset(), when="after")
        await fluence.vms.rename(machine.id, "vm-2")
        assert simulator.count(rename) == 1
        simulator.fail(rename, Fault.reset(), when="before")
        await fluence.vms.rename(machine.id, "vm-3")
        assert simulator.count(rename) == 3
        assert (await fluence.vms.get(machine.id)).name == "vm-3"


async def test_a_lost_update_succeeds_by_comparison() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(PUT, Fault.reset(), when="after")
        update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
        updated = await fluence.update_and_wait(container, update)
        assert updated.container_info.image == OTHER_IMAGE


async def test_a_delete_refused_at_the_door_is_patient() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(DELETE, Fault.status(503), times=12)
        await fluence.containers.terminate(container.id)
        assert simulator.count(DELETE) == 13
        other = await fluence.deploy_and_wait(container_spec(simulator, "exp-2"))
        simulator.fail(DELETE, Fault.status(503), times=None)
        with pytest.raises(ServerError):
            await fluence.containers.terminate(other.id)
        assert simulator.count(DELETE) == 13 + Retry().max_refusals
        simulator.clear_faults()


async def test_a_call_that_stays_unclear_says_so() -> None:
    simulator = Simulator()
    async with session_on(simulator, retry=Retry(attempts=2)) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator))
        simulator.fail(DELETE, Fault.reset(), times=None, when="before")
        with pytest.raises(NoReplyError):
            await fluence.containers.terminate(container.id)
        assert simulator.count(DELETE) == 2
        assert (await fluence.containers.get(container.id)).status is Status.ACTIVE


async def test_a_retry_after_stops_all_and_ends_paced() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(429, headers={"Retry-After": "7"}))
    async with session_on(simulator, rate=RateLimit(per_second=10, burst=20)) as fluence:
        first = asyncio.create_task(fluence.containers.list())
        await asyncio.sleep(0.1)
        refused_at = now()
        others = [asyncio.create_task(fluence.vms.list()) for _ in range(20)]
        await asyncio.gather(first, *others)
    times = [request.at for request in simulator.requests[1:]]
    assert len(times) == 21
    assert min(times) >= refused_at + 7 - 0.2
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) > 0.09  # never a burst, and at first at half the rate
    assert sum(gaps[:5]) / 5 > 0.15


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("places", [1, 2])
async def test_nothing_is_sent_after_a_known_refusal(status: int, places: int) -> None:
    """Not the one that waits for the refused one's place, nor one whose turn came in the same tick."""
    sent: list[float] = []

    class Refusing:
        async def send(self, request: Request) -> Reply:
            sent.append(now())
            number = len(sent)
            await asyncio.sleep(0.1)
            return Reply(status, {"Retry-After": "7"}) if number == places else Reply(200, {}, b"[]")

        async def aclose(self) -> None: ...

    async with Session("key", wire=Refusing(), max_in_flight=places, rate=FAST) as session:
        began = now()
        await asyncio.gather(*(session.containers.list() for _ in range(6)))
    assert len(sent) == 7
    assert [at for at in sent if 0.1 <= at - began < 7.1] == []


async def test_a_503_is_throttling_too() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(503), times=1)
    async with session_on(simulator, rate=RateLimit(per_second=10, burst=20)) as fluence:
        await fluence.containers.list()
        began = now()
        await asyncio.gather(*(fluence.containers.list() for _ in range(10)))
        assert 1 < now() - began < 2  # at half the rate, and without the burst


async def test_a_date_is_relative_to_the_server_clock() -> None:
    simulator = Simulator()
    headers = {"Date": "Thu, 01 Jan 2026 03:00:00 GMT", "Retry-After": "Thu, 01 Jan 2026 03:00:09 GMT"}
    simulator.fail(LIST, Fault.status(429, headers=headers))
    async with session_on(simulator) as fluence:
        began = now()
        await fluence.containers.list()
        assert 9 <= now() - began < 10


@pytest.mark.parametrize("asked", ["inf", "-5", "soon", ""])
async def test_an_invalid_retry_after_is_ignored(asked: str) -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(429, headers={"Retry-After": asked}), times=2)
    async with session_on(simulator) as fluence:
        began = now()
        await fluence.containers.list()
        assert now() - began < 10
    assert simulator.count(LIST) == 3


async def test_a_day_s_retry_after_is_raised_at_once() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(429, headers={"Retry-After": "86400"}))
    async with session_on(simulator) as fluence:
        began = now()
        with pytest.raises(RateLimitedError) as caught:
            await fluence.containers.list()
        assert now() - began < 1
    assert caught.value.retry_after == 86400
    assert simulator.count(LIST) == 1


async def test_refusals_for_ever_end_at_the_deadline() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(429), times=None)
    began = now()
    with pytest.raises((RateLimitedError, NotSentError)) as caught:
        await Endpoints(transport_on(simulator), Kind.CONTAINER).table(deadline=began + 20)
    assert now() - began <= 20
    assert len(caught.value.attempts) > 3
    assert all(isinstance(attempt.error, RateLimitedError) for attempt in caught.value.attempts[:-1])
    async with session_on(simulator) as fluence:
        with pytest.raises(RateLimitedError, match=f"after {Retry().max_refusals} attempts"):
            await fluence.containers.list()


async def test_a_deadline_bounds_attempt_and_queue() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.hang(), times=None)
    transport = transport_on(simulator, max_in_flight=1)
    began = now()
    slow = asyncio.create_task(Endpoints(transport, Kind.CONTAINER).table(deadline=began + 8))
    await asyncio.sleep(0.1)
    with pytest.raises(NotSentError, match="deadline"):
        await Endpoints(transport, Kind.VM).table(deadline=began + 3)
    assert now() - began == pytest.approx(3)
    with pytest.raises(NoReplyError):
        await slow
    assert now() - began == pytest.approx(8)


async def test_a_budget_limits_the_share_of_retries() -> None:
    budget = RetryBudget(share=0.5, reserve=2)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()

    simulator = Simulator()
    simulator.fail(LIST, Fault.status(500), times=None)
    async with session_on(simulator) as fluence:
        for _ in range(100):
            with pytest.raises(ServerError):
                await fluence.containers.list()
    # 20 retries in reserve and one for five calls: not four for each call.
    assert 100 + 20 < simulator.count(LIST) < 100 + 20 + 25


async def test_a_2xx_that_is_not_json_is_not_repeated() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.body("<html>log in</html>"), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(DecodeError) as caught:
            await fluence.containers.list()
    assert caught.value.call == LIST
    assert simulator.count(LIST) == 1


async def test_no_slot_is_held_while_a_retry_sleeps() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.status(500), times=3)
    async with session_on(simulator, max_in_flight=1, retry=Retry(base=10, max_wait=60)) as fluence:
        slow = asyncio.create_task(fluence.containers.list())
        await asyncio.sleep(0.5)
        began = now()
        await fluence.vms.list()
        assert now() - began < 0.1
        await slow


async def test_a_cancelled_call_gives_its_slot_back() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.hang())
    async with session_on(simulator, max_in_flight=1) as fluence:
        stuck = asyncio.create_task(fluence.containers.list())
        waiting = asyncio.create_task(fluence.vms.list())
        await asyncio.sleep(1)
        waiting.cancel()
        stuck.cancel()
        await asyncio.wait([stuck, waiting])
        assert await fluence.baremetal.list() == []


async def test_one_line_per_request_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    caplog.set_level(logging.DEBUG, "aiofluence")
    async with session_on(simulator) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator, environment={"TOKEN": "canary"}))
        simulator.fail(GET, Fault.reset())
        await fluence.containers.get(ref.id)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(simulator.requests)
    assert f"GET /gpu/instances/{ref.id}: 200" in lines
    assert not any("canary" in line or DEFAULT_API_KEY in line for line in lines)


async def test_a_closed_session_fails_calls() -> None:
    simulator = Simulator()
    simulator.fail(LIST, Fault.hang(), times=None)
    async with session_on(simulator, max_in_flight=1) as fluence:
        running = asyncio.create_task(fluence.containers.list())
        queued = [asyncio.create_task(fluence.vms.list()) for _ in range(3)]
        await asyncio.sleep(1)
    results = await asyncio.gather(running, *queued, return_exceptions=True)
    assert [type(result) for result in results] == [NotSentError] * 4 or isinstance(results[0], NoReplyError)
    assert all(isinstance(result, NotSentError) for result in results[1:])
    for call in (fluence.containers.list(), fluence.containers.deploy(container_spec(simulator))):
        with pytest.raises(NotSentError, match="closed") as caught:
            await call
        assert caught.value.permanent


def test_replay_is_declared_with_the_call() -> None:
    assert Call("POST", "/gpu/x").retryable is Retryable.NEVER  # what is not declared is not repeated


async def test_a_call_cancelled_in_the_queue_is_unsent() -> None:
    simulator = Simulator()
    containers = Endpoints(transport_on(simulator, max_in_flight=1), Kind.CONTAINER)
    with pytest.raises(NotSentError, match="no longer waits") as caught:
        await containers.post(container_spec(simulator), lambda: True)
    assert len(caught.value.attempts) == 1
    assert simulator.requests == []
    assert await containers.table() == []  # its place is free again
    await containers.post(container_spec(simulator), lambda: False)
    assert len(simulator.instances()) == 1
