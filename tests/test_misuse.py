"""Wrong use of a session is refused with a hint, and a failing observer costs nothing."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import pytest

from aiofluence import (
    ConfigError,
    ContainerUpdate,
    Drift,
    FluenceError,
    InvalidRequestError,
    Session,
    UncertainDeployError,
)
from aiofluence.simulator import Fault, Simulator

from .harness import IMAGE, VIRTUAL, container_spec, session_on, vm_spec


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def test_wrong_use_sends_nothing() -> None:
    simulator = Simulator()
    async with session_on(simulator) as fluence:
        vm = await fluence.vms.deploy(vm_spec(simulator))
        sent = len(simulator.requests)
        with pytest.raises(ConfigError, match="only containers can be updated"):
            await fluence.update_and_wait(vm, ContainerUpdate(name="x", image=IMAGE))
        with pytest.raises(ConfigError, match="an id alone needs"):
            await fluence.wait(vm.id)  # type: ignore[call-overload]
        with pytest.raises(ConfigError, match="entered once"):
            await fluence.__aenter__()
        assert len(simulator.requests) == sent
    with pytest.raises(ConfigError, match="is a text, not int"):
        Session(5)  # type: ignore[arg-type]


async def test_a_pickled_error_has_no_session() -> None:
    error = pickle.loads(pickle.dumps(UncertainDeployError("exp-1")))
    with pytest.raises(ConfigError, match="list the instances and search for the name"):
        await error.resolve()


async def test_a_failing_observer_loses_no_id(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()

    def fail(call: object, reply: object) -> None:
        raise RuntimeError("a bug of the observer")

    async with session_on(simulator, on_reply=fail) as fluence:
        with caplog.at_level(logging.ERROR, "aiofluence"):
            ref = await fluence.containers.deploy(container_spec(simulator))
    assert [instance.id for instance in simulator.live()] == [ref.id]
    assert "on_reply failed" in caplog.text


async def test_a_problem_without_a_place_is_told() -> None:
    simulator = Simulator()
    simulator.fail("GET /gpu/instances/", Fault.status(422, {"detail": [{"msg": "Bad", "loc": "body"}]}))
    async with session_on(simulator) as fluence:
        with pytest.raises(InvalidRequestError, match="Bad"):
            await fluence.containers.list()


async def test_drift_of_unusual_replies() -> None:
    simulator = Simulator()
    found: list[Drift] = []
    async with session_on(simulator, on_drift=found.append) as fluence:
        simulator.fail("GET /gpu/instances/", Fault.status(206, []))
        await fluence.containers.list()
        simulator.fail("GET /gpu/instances/", Fault.status(200, "{", {"Content-Type": "text/plain"}))
        with pytest.raises(FluenceError):
            await fluence.containers.list()
        with pytest.raises(FluenceError):
            await fluence.request("GET", "/gpu/other/")
        images = json.loads((await fluence.request("GET", "/gpu/default-images/")).body)
        simulator.fail("GET /gpu/default-images/", Fault.body([*images, 5, {"slug": []}]))
        await fluence.images.list()
    assert found[:2] == [
        Drift("status", "GET /gpu/instances/", "", "206"),
        Drift("format", "GET /gpu/instances/", "$", "not this JSON, text/plain"),
    ]
    assert {(drift.kind, drift.place, drift.observed) for drift in found[2:]} >= {
        ("type", "$[]", "number"),
        ("type", "$[].slug", "array"),
    }
