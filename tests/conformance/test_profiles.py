"""Profiles of the simulator: a run finds each habit that differs, and what the account does not show."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiofluence import AuthError, Reply, Request, Session
from aiofluence.conformance.asking import NO_PLAN, UnfitError
from aiofluence.conformance.finding import Observations, Verdict
from aiofluence.conformance.probe import Level
from aiofluence.conformance.run import Conformance
from aiofluence.simulator import DEFAULT_API_KEY, KIND, LIKELY, Fault, Provisioning, Simulator, SimulatorWire
from aiofluence.simulator.routes import operation as operation_of

from ..harness import FAST, ROOMY, VIRTUAL
from .bench import IDS, give_history, ids, observe, observe_simulator


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


async def test_a_kind_service_is_found_out(tmp_path: Path) -> None:
    habits = KIND.replace(reserved_variable="refused", provisioning=Provisioning(median=72.0, sigma=0.0))
    simulator = Simulator(profile=habits)
    await give_history(simulator)
    seen = await observe_simulator(simulator, Level.PAID)
    assert ids(seen) == {
        *(
            "free-text-places",
            "detail-domain",
            "newest-first",
            "machine-ip",
            "next-period",
            "usage-after-end",
        ),
        *("reserved-variable", "restarts", "process-exits", "images-exit", "commands", "pull-fails"),
        *("downtime", "logs-gone", "logs-creating"),
    }
    assert sorted(instance.name for instance in simulator.live()) == ["new", "new-vm"]
    seen.write(file := tmp_path / "observations.json")
    again = Simulator.from_observations(file).profile
    same = ("reserved_variable", "list_order", "images_exit", "update_downtime", "logs_after_end")
    assert [name for name in same if getattr(again, name) != getattr(habits, name)] == []


async def test_a_container_that_ends_with_its_program() -> None:
    simulator = Simulator(profile=LIKELY.replace(restarts=False, lease_checks=None))
    seen = await observe_simulator(simulator, Level.PAID)
    observed = {finding.claim: finding.observed for finding in seen.contradicted}
    assert observed["restarts"] == observed["process-exits"] == "ended"
    assert simulator.live() == []
    assert simulator.reserved() == 0


class EditingWire(SimulatorWire):
    """Wire that edits the JSON of the replies to some operations, such as `GET /gpu/plans/`."""

    def __init__(self, simulator: Simulator, edits: Mapping[str, Callable[[Any], Any]]) -> None:
        super().__init__(simulator)
        self.edits = edits

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        edit = self.edits.get(str(operation_of(request.method, request.path)))
        if edit is None or reply.status != 200:
            return reply
        return attrs.evolve(reply, body=json.dumps(edit(json.loads(reply.body))).encode())


def priced(pricing: Any) -> Callable[[Any], Any]:
    """Return an edit that gives every container plan this pricing."""
    return lambda plans: [plan | {"plan": plan["plan"] | {"pricing": pricing}} for plan in plans]


def undecided(seen: Observations) -> dict[str, str]:
    return {finding.claim: finding.why for finding in seen.findings if finding.verdict is Verdict.UNDECIDED}


async def test_nothing_for_sale() -> None:
    simulator = Simulator()
    nothing: dict[str, Callable[[Any], Any]] = {
        f"GET /gpu/plans/{kind}": lambda plans: [] for kind in ("", "vms", "baremetal")
    }
    seen = await observe(EditingWire(simulator, nothing), Level.PAID)
    why = undecided(seen)
    assert why["os-image"] == "no VM is for sale"
    assert why["failure-refund"] == why["backoff"] == "no container plan is for sale"
    assert simulator.instances() == []


async def test_documents_of_another_form_are_survived() -> None:
    simulator = Simulator()
    await give_history(simulator)
    simulator.fail("GET /v2/users/balances", Fault.status(500), times=None)
    simulator.fail("GET /v1/users/me", Fault.status(500), times=None)
    edits = {
        "GET /gpu/plans/": lambda plans: [
            plan | {"plan": plan["plan"] | {"pricing": "high"}} for plan in plans
        ],
        "GET /gpu/instances/vms/{id}": lambda detail: (
            detail | {"ssh_connection": "ssh admin@host"} if detail["ssh_connection"] else detail
        ),
        "GET /gpu/instances/{id}/events": lambda events: ["hello", *events],
    }
    seen = await observe(EditingWire(simulator, edits), Level.FREE)
    why = undecided(seen)
    assert why["published-plans"] == "a reply has an unexpected form (AttributeError)"
    assert why["me"] == "the documents could not be fetched"
    assert ids(seen) == {"plan-groups", "login-users", "event-form", "forgotten"}


async def test_risen_prices_stop_a_level() -> None:
    simulator = Simulator()
    edits: dict[str, Callable[[Any], Any]] = {}
    run = Conformance(max_cost=Decimal(5))
    async with Session(DEFAULT_API_KEY, wire=EditingWire(simulator, edits), rate=FAST) as session:
        await run.find_prices(session)
        assert run.worst_until(Level.REFUNDED) < 5
        edits["GET /gpu/plans/"] = priced({"hour": 99.0, "currency": "USDC"})
        with pytest.raises(UnfitError, match="prices have risen"):
            await run.run(session, Level.REFUNDED)
    assert simulator.instances() == []


async def test_an_expired_key_ends_a_run() -> None:
    simulator = Simulator()

    def expire(images: Any) -> Any:
        simulator.key_state = "expired"
        return images

    wire = EditingWire(simulator, {"GET /gpu/default-images/": expire})
    with pytest.raises(AuthError):
        await observe(wire, Level.PAID)
    assert simulator.instances() == []


async def test_a_token_in_place_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUENCE_API_KEY", raising=False)
    monkeypatch.setenv("FLUENCE_ACCESS_TOKEN", DEFAULT_API_KEY)
    run = Conformance()
    async with Session(wire=SimulatorWire(Simulator()), rate=FAST) as session:
        await run.run(session, Level.FREE)
    seen = run.observations(IDS)
    assert ids(seen) == set()
    assert next(f for f in seen.findings if f.claim == "bearer").verdict is Verdict.CONFIRMED


async def test_half_cents_are_rounded_up() -> None:
    simulator = Simulator()
    half = priced({"hour": 0.125, "currency": "USDC"})
    wire = EditingWire(simulator, {"GET /gpu/plans/": half, "GET /gpu/instances/{id}": with_hourly(0.13)})
    seen = await observe(wire, Level.REFUNDED)
    assert next(f for f in seen.findings if f.claim == "half-cents").verdict is Verdict.CONFIRMED
    wire.edits = {"GET /gpu/plans/": half, "GET /gpu/instances/{id}": with_hourly(0.12)}
    seen = await observe(wire, Level.REFUNDED)
    assert next(f for f in seen.findings if f.claim == "half-cents").observed == "down"


def with_hourly(amount: float) -> Callable[[Any], Any]:
    return lambda detail: detail | {"billing": detail["billing"] | {"hourly_usage": amount}}


class CarelessWire(SimulatorWire):
    """Wire to a service that deploys a cheap plan in place of an unknown one."""

    async def send(self, request: Request) -> Reply:
        if request.method == "POST":
            plan = self.simulator.catalog.find("container").id
            request = attrs.evolve(request, body=request.body.replace(NO_PLAN.encode(), plan.encode()))
        return await super().send(request)


async def test_an_accepted_deploy_is_ended() -> None:
    simulator = Simulator(profile=ROOMY)
    seen = await observe(CarelessWire(simulator), Level.FREE)
    assert "unknown-plan" in ids(seen)
    assert simulator.instances() != []
    assert simulator.live() == []
    assert simulator.reserved() == 0
