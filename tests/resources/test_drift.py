"""Drift: the published documents have none, and each difference is reported once per session."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aiofluence import Drift, FluenceError, Retry
from aiofluence.resources.shapes import SHAPES, differences, fits, operation_of
from aiofluence.simulator import Fault, Simulator

from ..harness import VIRTUAL, container_spec, session_on, vm_spec

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


@pytest.mark.parametrize(
    ("file", "operation"),
    [
        ("container_active", "GET /gpu/instances/{id}"),
        ("container_ended", "GET /gpu/instances/{id}"),
        ("container_list", "GET /gpu/instances/"),
        ("container_plans", "GET /gpu/plans/"),
        ("deploy_reply", "POST /gpu/instances/"),
        ("events", "GET /gpu/instances/{id}/events"),
        ("logs", "GET /gpu/instances/{id}/logs"),
        ("machine_plans", "GET /gpu/plans/vms"),
        ("vm_active", "GET /gpu/instances/vms/{id}"),
        ("vm_ended", "GET /gpu/instances/vms/{id}"),
        ("vm_list", "GET /gpu/instances/vms"),
    ],
)
def test_published_documents_fit(file: str, operation: str) -> None:
    value = json.loads((PUBLISHED / f"{file}.json").read_text())
    assert list(differences(SHAPES[operation], value)) == []
    assert fits(SHAPES[operation], value)
    broken = [*value, 1] if isinstance(value, list) else value | {"new": 1}
    assert list(differences(SHAPES[operation], broken)) != []
    assert not fits(SHAPES[operation], broken)


def test_operations_of_paths() -> None:
    assert operation_of("GET", "/gpu/instances/vms") == "GET /gpu/instances/vms"
    assert operation_of("PUT", "/gpu/instances/vms/a-1") == "PUT /gpu/instances/vms/{id}"
    assert operation_of("GET", "/gpu/instances/a-1/logs") == "GET /gpu/instances/{id}/logs"
    assert operation_of("GET", "/gpu/plans/") == "GET /gpu/plans/"


async def test_the_simulator_does_not_drift() -> None:
    simulator = Simulator()
    found: list[Drift] = []
    async with session_on(simulator, on_drift=found.append) as fluence:
        await fluence.plans.find()
        await fluence.images.list()
        await fluence.account.balance()
        await fluence.account.permissions()
        async with fluence.running(container_spec(simulator)) as container:
            await fluence.containers.logs(container.id)
            await fluence.containers.events(container.id)
        vm = await fluence.deploy_and_wait(vm_spec(simulator))
        await fluence.vms.rename(vm.id, "other")
        with pytest.raises(FluenceError):
            await fluence.vms.terminate(vm.id)  # within the minimum runtime
        with pytest.raises(FluenceError):
            await fluence.containers.get("3fa85f64-5717-4562-b3fc-2c963f66afa6")
    assert found == []


async def test_each_drift_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    found: list[Drift] = []

    def note(drift: Drift) -> None:
        found.append(drift)
        raise RuntimeError("a failing observer costs nothing")

    async with session_on(simulator, on_drift=note, retry=Retry(attempts=1)) as fluence:
        ref = await fluence.containers.deploy(container_spec(simulator))
        row = json.loads((await fluence.request("GET", "/gpu/instances/")).body)[0]
        odd = row | {"credits": 5, "instance_status": "PENDING", "updated_at": "today"}
        simulator.fail("GET /gpu/instances/", Fault.body([row, odd]), times=2)
        view = fluence.with_options(on_reply=lambda call, reply: None)
        with caplog.at_level(logging.INFO, "aiofluence"):
            await view.containers.list()
            await fluence.containers.list()
        for code, body in (
            (400, {"detail": "Region us-1 is closed for 'me'"}),
            (418, {"detail": "x"}),
            (404, "<html>"),
        ):
            simulator.fail("GET /gpu/instances/{id}", Fault.status(code, body))
            with pytest.raises(FluenceError):
                await fluence.containers.get(ref.id)
        simulator.fail("DELETE /gpu/instances/{id}", Fault.status(202))
        await fluence.containers.terminate(ref.id)
    detail = "GET /gpu/instances/{id}"
    assert found[:6] == [
        Drift("type", "GET /gpu/instances/", "$[].updated_at", "not a time"),
        Drift("value", "GET /gpu/instances/", "$[].instance_status", "PENDING"),
        Drift("field", "GET /gpu/instances/", "$[].credits", "number"),
        Drift("refusal", detail, "$.detail", "Region … is closed for …"),
        Drift("status", detail, "", "418"),
        Drift("format", detail, "$", "404 with text/html"),
    ]
    assert found[6:] == [Drift("status", "DELETE /gpu/instances/{id}", "", "202")]
    assert "not in the contract: GET /gpu/instances/: unknown field at $[].credits: number" in caplog.text


async def test_no_session_looks_for_drift_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUENCE_LOG", raising=False)
    assert session_on(Simulator())._transport.watch is None
    monkeypatch.setenv("FLUENCE_LOG", "info")
    log = logging.getLogger("aiofluence")
    before = log.level, [*log.handlers]
    try:
        assert session_on(Simulator())._transport.watch is not None
    finally:
        log.setLevel(before[0])
        log.handlers[:] = before[1]
