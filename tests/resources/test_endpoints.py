"""Every endpoint of the contract through its public method, over real HTTP, on all three kinds.

docs/endpoints.md is the same table for people; a test here keeps the two together.
"""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiofluence import (
    AuthError,
    ConfigError,
    Container,
    ContainerUpdate,
    Kind,
    Machine,
    MinimumRuntimeError,
    NotFoundError,
    Port,
    Session,
    Size,
    Status,
    Until,
    UpdateInProgressError,
    VMSpec,
)
from aiofluence.resources import containers, machines, plans as catalog
from aiofluence.resources.kinds import EVENTS, KINDS, LOGS, InstanceCalls
from aiofluence.simulator import Provisioning, Simulator, SimulatorServer

from ..harness import (
    OTHER_IMAGE,
    SSH_KEY,
    VIRTUAL,
    baremetal_spec,
    container_spec,
    session_over_http,
    vm_spec,
)

DOCS = Path(__file__).parents[2] / "docs" / "endpoints.md"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL  # the simulator's server runs in the same loop, so sockets and virtual time go together


def seen(simulator: Simulator) -> set[str]:
    return {f"{request.operation}" for request in simulator.requests}


async def test_plans() -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        plans = await fluence.plans.containers()
        vms = await fluence.plans.vms()
        metal = await fluence.plans.baremetal()
    assert {"GET /gpu/plans/", "GET /gpu/plans/vms", "GET /gpu/plans/baremetal"} <= seen(simulator)
    plan = max(plans, key=lambda plan: plan.gpu_model.vram)
    assert plan.gpu_model.vram.gib >= 141
    assert plan.pricing.upfront == plan.pricing.hour * 3
    assert plan.locations
    for groups, kind in ((vms, "VM"), (metal, "BAREMETAL")):
        options = [
            option for group in groups for count in group.availability_by_number for option in count.options
        ]
        assert options
        assert {option.deployment_type for option in options} == {kind}
        assert all(option.os_options and isinstance(option.pricing.hour, Decimal) for option in options)


async def test_find_is_one_flat_list_cheapest_first() -> None:
    async with session_over_http(Simulator()) as fluence:
        offers = await fluence.plans.find()
        assert {offer.kind for offer in offers} == set(Kind)
        assert [offer.hourly for offer in offers] == sorted(offer.hourly for offer in offers)
        assert all(offer.upfront == 3 * offer.hourly for offer in offers)

        h100 = await fluence.plans.find(kind="vm", gpu="H100", gpu_count=1)
        assert h100
        assert {(offer.kind, offer.gpu_model.model, offer.gpu_count) for offer in h100} == {
            (Kind.VM, "h100", 1)
        }
        assert {offer.gpu_model.model for offer in await fluence.plans.find(gpu="l4")} == {"l4"}
        assert {offer.gpu_model.model for offer in await fluence.plans.find(gpu="RTX 4090")} == {"rtx4090"}
        here = await fluence.plans.find(location="us", max_hourly="0.50")
        assert here
        assert {offer.kind for offer in here} == {Kind.CONTAINER, Kind.VM}
        assert all(offer.hourly <= Decimal("0.5") for offer in here)
        assert await fluence.plans.find(gpu="abacus") == []
        assert min(offer.gpu_model.vram for offer in offers) < Size.parse("24Gi")


@pytest.mark.parametrize("arguments", [{"kind": "tpu"}, {"max_hourly": "cheap"}, {"max_hourly": -1}])
async def test_an_invalid_search_is_refused(arguments: Any) -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        with pytest.raises(ConfigError):
            await fluence.plans.find(**arguments)
    assert simulator.requests == []


async def test_default_images_can_be_deployed() -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        images = await fluence.images.list()
        plan_id = (await fluence.plans.find(kind="container"))[0].plan_id
        for number, image in enumerate(images):
            spec = image.to_spec(name=f"image-{number}", plan_id=plan_id, ssh_key=SSH_KEY)
            ref = await fluence.containers.deploy(spec)
            info = (await fluence.containers.get(ref.id)).container_info
            assert (info.image, info.expose) == (image.image, image.expose)
    assert len(simulator.live()) == len(images) > 2
    assert "GET /gpu/default-images/" in seen(simulator)


async def test_containers() -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        spec = container_spec(
            simulator, expose=[22, "80/http"], environment={"A": "1"}, ssh_key=SSH_KEY, location="US"
        )
        ref = await fluence.containers.deploy(spec)
        fresh = await fluence.containers.get(ref.id)
        assert (fresh.status, fresh.network, fresh.name) == (Status.INITIALIZED, None, "exp-1")

        container = await fluence.wait(ref, until=Until.READY)
        assert isinstance(container, Container)
        assert container.network is not None
        assert container.network.domain
        assert [port.port for port in container.network.forwarded_ports] == [22]
        assert container.network.uri
        assert container.container_info.environment == {"A": "1", "SSH_PUBKEY": SSH_KEY}
        assert container.container_info.expose == (Port(22), Port(80, "http"))
        assert container.billing.reserved_amount == 2 * container.billing.hourly_usage

        (row,) = await fluence.containers.list()
        assert (row.ref, row.status, row.location) == (ref, Status.ACTIVE, "US")

        simulator.print(ref.id, "hello from the test")
        lines = await fluence.containers.logs(ref.id)
        assert lines[-1].text == "hello from the test"
        assert await fluence.containers.logs(ref.id, last=1) == lines[-1:]
        events = await fluence.containers.events(ref.id)
        assert {"Scheduled", "Pulled", "Started"} <= {event.reason for event in events}
        assert await fluence.containers.events(ref.id, last=2) == events[-2:]
        for last in (0, -1):
            with pytest.raises(ConfigError):
                await fluence.containers.logs(ref.id, last=last)

        update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
        await fluence.containers.update(ref.id, update)
        with pytest.raises(UpdateInProgressError):
            await fluence.containers.update(ref.id, update)
        updated = await fluence.wait(ref)
        assert isinstance(updated, Container)

        await fluence.containers.terminate(ref.id)
        assert (await fluence.containers.get(ref.id)).status is Status.ENDED
    assert simulator.live() == []
    assert seen(simulator) == {str(call) for call in _instance_calls(KINDS[Kind.CONTAINER].calls)} | {
        str(LOGS),
        str(EVENTS),
    }


@pytest.mark.parametrize("kind", ["vm", "baremetal"])
async def test_machines(kind: str) -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        resource = fluence.vms if kind == "vm" else fluence.baremetal
        spec = vm_spec(simulator) if kind == "vm" else baremetal_spec(simulator)
        ref = await resource.deploy(spec)  # type: ignore[arg-type]  # each kind gets its own spec
        assert (await resource.get(ref.id)).ssh_connection is None
        machine = await fluence.wait(ref, until=Until.READY)
        assert isinstance(machine, Machine)
        assert machine.ssh_connection
        assert machine.ssh_connection.startswith("ssh ")
        assert (machine.kind, machine.availability, machine.os_image) == (ref.kind, kind, spec.os_image)
        assert machine.ssh_key == SSH_KEY

        await resource.rename(ref.id, "other-name")
        (row,) = await resource.list()
        assert (row.name, row.kind, row.status) == ("other-name", ref.kind, Status.ACTIVE)

        with pytest.raises(MinimumRuntimeError):
            await resource.terminate(ref.id)
        await asyncio.sleep(20 * 60)
        await resource.terminate(ref.id)
        assert (await resource.get(ref.id)).status is Status.ENDED
    assert simulator.live() == []
    calls = KINDS[Kind(kind)].calls
    assert seen(simulator) == {str(call) for call in _instance_calls(calls)}


async def test_a_spec_goes_to_its_own_kind_only() -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        with pytest.raises(ConfigError, match="baremetal"):
            await fluence.vms.deploy(baremetal_spec(simulator))
        with pytest.raises(ConfigError, match="vm"):
            await fluence.baremetal.post(vm_spec(simulator))  # type: ignore[arg-type]
    assert simulator.requests == []


async def test_an_unknown_id_and_a_wrong_key() -> None:
    simulator = Simulator()
    async with session_over_http(simulator) as fluence:
        with pytest.raises(NotFoundError):
            await fluence.containers.get("00000000-0000-0000-0000-000000000000")
        with pytest.raises(ConfigError):
            await fluence.containers.get("../plans")
    async with SimulatorServer(simulator) as server, Session("another-key", base_url=server.url) as stranger:
        with pytest.raises(AuthError):
            await stranger.containers.list()


async def test_a_bare_post() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.0))
    async with session_over_http(simulator) as fluence:
        ref = await fluence.containers.post(container_spec(simulator))
        assert (await fluence.containers.get(ref.id)).name == "exp-1"
    assert simulator.count("POST /gpu/instances/") == 1


def _instance_calls(calls: InstanceCalls) -> list[Any]:
    return [calls.deploy, calls.list, calls.get, calls.put, calls.terminate]


def test_the_table_in_the_docs_is_the_code() -> None:
    declared = {
        *(str(call) for kind in KINDS.values() for call in _instance_calls(kind.calls)),
        *map(str, (LOGS, EVENTS)),
        *map(str, (catalog.CONTAINER_PLANS, catalog.VM_PLANS, catalog.BAREMETAL_PLANS)),
        str(catalog.DEFAULT_IMAGES),
    }
    assert len(declared) == 21
    rows = re.findall(r"^\| \d+ \| `([A-Z]+ [^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", DOCS.read_text(), re.M)
    assert {call.partition("?")[0] for call, _, _ in rows} == declared
    assert len(rows) == 21
    tests = Path(__file__).read_text()
    for call, method, test in rows:
        resource, _, verb = method.partition("(")[0].rpartition(".")
        assert hasattr(_owner(resource), verb), f"{call}: no method {method}"
        assert f"async def {test}(" in tests, f"{call}: no test {test}"


def _owner(resource: str) -> type:
    return {
        "plans": catalog.Plans,
        "images": catalog.Images,
        "containers": containers.Containers,
        "vms": machines.Machines[VMSpec],
        "baremetal": machines.Machines[VMSpec],
    }[resource]
