"""The service's published documents, through the client unchanged.

`fixtures/service` has one file for each document: the request that it belongs to, the status, and the body.
A wire answers with the bodies, so that everything above the wire is the client's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiofluence import (
    BareMetalSpec,
    Container,
    ContainerSpec,
    ContainerStatus,
    DeploymentType,
    EventType,
    FluenceError,
    ForwardedPort,
    InstanceRef,
    InsufficientBalanceError,
    Interface,
    InvalidRequestError,
    Kind,
    Machine,
    Port,
    PortProtocol,
    Reply,
    Request,
    Session,
    Size,
    Status,
    UnsupportedImageError,
    VMSpec,
)
from aiofluence.http.codec import payload
from aiofluence.simulator import Fault, Simulator

from .harness import session_on, vm_spec

FOLDER = Path(__file__).parent / "fixtures" / "service"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... user@host"
BOX = "b54672e2-0a8b-490f-81ee-7d5a868471fc"
VM = "05cdd5fc-d384-4fbc-8861-5e3e2a66397c"


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


class PublishedWire:
    """Answers each request with the published document that belongs to it, and keeps what was sent."""

    def __init__(self, *names: str) -> None:
        self._documents = [document(name) for name in names]
        self.sent: list[Request] = []

    async def send(self, request: Request) -> Reply:
        self.sent.append(request)
        for found in self._documents:
            path = found["path"].replace("{id}", "[^/]+")
            if request.method == found["method"] and re.fullmatch(path, request.path):
                return Reply(found["status"], {}, json.dumps(found["body"]).encode())
        return Reply(404, {}, b'{"detail": "Not Found"}')

    async def aclose(self) -> None:
        """There is nothing to close."""


def session(*names: str) -> Session:
    return Session("k", wire=PublishedWire(*names))


def test_every_document_has_its_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert not [path.stem for path in FOLDER.glob("*.json") if f'"{path.stem}"' not in text]


async def test_container_plans() -> None:
    async with session("container_plans") as fluence:
        h200, a100 = await fluence.plans.containers()
    assert h200.id == "36cdb646-1246-42d8-b2d1-9480ca546536"
    assert h200.name == "h200-141gi-sxm-1gpu-16cpu-128gi-120gi"
    assert (h200.supply.vcpu, h200.supply.gpu_count) == (16, 1)
    assert (h200.supply.memory, h200.supply.storage) == (Size.parse("128Gi"), Size.parse("120Gi"))
    assert (h200.gpu_model.vendor, h200.gpu_model.model) == ("nvidia", "h200")
    assert (h200.gpu_model.vram, h200.gpu_model.interface) == (Size.parse("141Gi"), Interface.SXM)
    assert (h200.pricing.hour, h200.pricing.upfront) == (Decimal("2.96"), Decimal("8.88"))
    assert (h200.pricing.currency, h200.locations) == ("USDC", ("US",))
    assert (a100.supply.vcpu, a100.supply.memory, a100.supply.storage) == (
        1,
        Size.parse("1Gi"),
        Size.parse("1Gi"),
    )


async def test_machine_plans() -> None:
    async with session("machine_plans") as fluence:
        a10, a100 = await fluence.plans.vms()
    assert (a10.gpu_model.interface, a10.minimum_price) == (Interface.PCIE, Decimal("0.99"))
    (number,) = a10.availability_by_number
    assert (number.gpu_count, number.options_available_total, number.providers) == (1, 2, ("sesterce",))
    assert (number.providers_available_total, number.data_center_available_total) == (1, 2)
    assert number.locations == ("dulles-usa-1", "sanjose-usa-2")
    san_jose, dulles = number.options
    assert (san_jose.location, dulles.location) == ("sanjose-usa-2", "dulles-usa-1")
    assert (san_jose.deployment_type, san_jose.nvlink) == (DeploymentType.VM, False)
    assert (san_jose.vcpu, san_jose.memory, san_jose.storage) == (
        30,
        Size.parse("186Gi"),
        Size.parse("1303Gi"),
    )
    assert san_jose.os_options == ("ubuntu22.04_cuda12.4_shade_os",)
    assert a100.availability_by_number[0].options[0].provider == "massed-compute"


@pytest.mark.parametrize(
    ("location", "places"),
    [
        ("us-central-3", ["us-central-3"]),
        ("US-Central-3", ["us-central-3"]),
        ("US", ["dulles-usa-1", "sanjose-usa-2", "us-central-3"]),
        ("usa", ["dulles-usa-1", "sanjose-usa-2", "us-central-3"]),
        ("United States", ["dulles-usa-1", "sanjose-usa-2", "us-central-3"]),
        ("us-*", ["us-central-3"]),
        ("*-USA-?", ["dulles-usa-1", "sanjose-usa-2"]),
        ("Norway", []),
        ("us-central", []),
        ("atlantis", []),
    ],
)
async def test_a_machine_is_found_by_its_place(location: str, places: Sequence[str]) -> None:
    async with session("machine_plans") as fluence:
        offers = await fluence.plans.find(kind="vm", location=location)
    assert sorted(offer.locations[0] for offer in offers) == places


async def test_a_plan_is_found_by_its_country_name() -> None:
    async with session("container_plans") as fluence:
        for location in ("US", "us", "USA", "united states", "u*"):
            assert len(await fluence.plans.find(kind="container", location=location)) == 2
        assert await fluence.plans.find(kind="container", location="Norway") == []


async def test_active_container() -> None:
    async with session("container_active", "container_list") as fluence:
        box = await fluence.containers.get(BOX)
        row, ended = await fluence.containers.list()
    assert isinstance(box, Container)
    assert (box.id, box.name, box.status) == (BOX, "fuchsia-hawk-4706", Status.ACTIVE)
    assert box.container_status is ContainerStatus.STARTED
    assert box.resources == row.resources
    assert box.resources.gpu_model.interface is Interface.SXM
    assert box.container_info.image == "docker.io/fluencelabs/debian-ssh-root:11"
    assert box.container_info.expose == (Port(22),)
    assert box.container_info.environment == {"SSH_PUBKEY": "ssh-ed25519 AAAAC3..."}
    assert (box.billing.hourly_usage, box.billing.total_spendings) == (Decimal("1.22"), Decimal("1.22"))
    assert box.billing.reserved_amount == Decimal("2.44")
    assert box.billing.next_billing_period == datetime(2026, 2, 7, 15, tzinfo=UTC)
    assert box.network is not None
    assert box.network.forwarded_ports == (ForwardedPort(22, 32345, PortProtocol.TCP),)
    assert box.network.uri is None
    assert box.created_at == datetime(2026, 2, 7, 14, 42, 29, 472381, tzinfo=UTC)
    assert box.domain == row.domain == "provider.a100.pub"
    assert (ended.status, ended.domain) == (Status.ENDED, None)


async def test_ended_container() -> None:
    async with session("container_ended") as fluence:
        box = await fluence.containers.get("4fe394f8-215c-42c3-8cef-f5f0381f7d9c")
    assert (box.status, box.container_status) == (Status.ENDED, ContainerStatus.NOT_STARTED)
    assert (box.domain, box.network) == (None, None)
    assert (box.billing.hourly_usage, box.billing.total_spendings) == (Decimal(0), Decimal("26.8"))
    assert box.billing.reserved_amount == 0
    assert box.billing.next_billing_period is None


async def test_active_vm() -> None:
    async with session("vm_active", "vm_list") as fluence:
        machine = await fluence.vms.get(VM)
        row, failed = await fluence.vms.list()
    assert isinstance(machine, Machine)
    assert (machine.kind, machine.status, machine.availability) == (Kind.VM, Status.ACTIVE, "vm")
    assert machine.domain == row.domain == "216.81.248.90"
    assert (machine.ssh_connection, machine.os_image) == ("ssh ubuntu@216.81.248.90", "Ubuntu Server 22.04")
    assert machine.location == "us-central-3"
    # Amounts are rounded to cents: two hours at 0.755 are 1.51, and one hour is in reserve.
    assert (machine.billing.hourly_usage, machine.billing.total_spendings) == (
        Decimal("0.76"),
        Decimal("1.51"),
    )
    assert machine.billing.reserved_amount == Decimal("0.76")
    assert (failed.status, failed.domain, failed.location) == (Status.FAILED, None, "Texas")


async def test_ended_vm() -> None:
    async with session("vm_ended") as fluence:
        machine = await fluence.vms.get("74c722a1-645c-4799-ad2b-731e8f45def8")
    assert (machine.status, machine.ssh_connection, machine.domain) == (Status.ENDED, None, None)
    assert machine.billing.total_spendings == machine.billing.hourly_usage == 0
    assert machine.billing.next_billing_period is None


async def test_a_container_domain_survives_a_wait() -> None:
    async with session("container_active", "container_list") as fluence:
        box = await fluence.wait(InstanceRef(Kind.CONTAINER, BOX, "fuchsia-hawk-4706"))
    assert box.domain == "provider.a100.pub"


async def test_a_container_is_deployed_as_published() -> None:
    wire = PublishedWire("deploy_reply")
    spec = ContainerSpec(
        name="my-gpu-container",
        plan_id="075e40d4-2766-4347-833b-205245fe3629",
        image="docker.io/fluencelabs/debian-ssh-root:11",
        expose=[22, "80/http", 443, 8000],
        environment={"MODEL_PATH": "/models/llama"},
        startup_command="python3 serve.py --port 8000",
        location="US",
        ssh_key=KEY,
    )
    async with Session("k", wire=wire) as fluence:
        ref = await fluence.containers.deploy(spec)
    assert ref.id == "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    published = document("deploy_container_request")
    (sent,) = wire.sent
    assert (sent.method, sent.path) == (published["method"], published["path"])
    assert json.loads(sent.body) == published["body"]


def test_a_machine_is_deployed_as_published() -> None:
    fields: dict[str, Any] = {
        "name": "my-gpu-vm",
        "plan_id": "e5f00ba8-268e-4279-9672-eabca860f19e",
        "ssh_key": KEY,
        "os_image": "Ubuntu Server 22.04",
    }
    for spec in (VMSpec(**fields), BareMetalSpec(**fields)):
        assert json.loads(payload(spec)) == document("deploy_vm_request")["body"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("error_400_balance", InsufficientBalanceError),
        ("error_400_os_image", UnsupportedImageError),
        ("error_422", InvalidRequestError),
    ],
)
async def test_a_published_error_has_its_class(name: str, kind: type[FluenceError]) -> None:
    simulator = Simulator()
    published = document(name)
    simulator.fail("POST /gpu/instances/vms", Fault.status(published["status"], published["body"]))
    async with session_on(simulator) as fluence:
        with pytest.raises(kind) as caught:
            await fluence.vms.deploy(vm_spec(simulator))
    error = caught.value
    assert type(error) is kind
    if isinstance(error, UnsupportedImageError):
        assert error.options == ("Ubuntu Server 22.04",)
    if isinstance(error, InvalidRequestError):
        problem = "container_settings.expose[0].port: Value error, Port must be between 1 and 65535"
        assert error.problems == (problem,)
        assert "999999999" not in str(error)
    assert simulator.live() == []


async def test_logs_and_events() -> None:
    async with session("logs", "events") as fluence:
        first, second = await fluence.containers.logs(BOX)
        events = await fluence.containers.events(BOX)
    pod = "service-1-b4fcd99f7-f5xr5"
    assert (first.pod, first.text) == (pod, "Server listening on 0.0.0.0 port 22.")
    assert second.text == "Server listening on :: port 22."
    assert [event.reason for event in events] == ["Scheduled", "Pulled", "Created", "Started"]
    assert {(event.object, event.type, event.kind) for event in events} == {(pod, EventType.NORMAL, None)}
    assert events[1].message == (
        'Container image "docker.io/fluencelabs/debian-ssh-root:11" already present on machine'
    )


async def test_balance() -> None:
    async with session("balances") as fluence:
        balance = await fluence.account.balance()
    assert (balance.balance, balance.usage) == (Decimal("42.50"), Decimal("7.5"))
    assert (balance.estimated_usage, balance.overage) == (Decimal("9.25"), Decimal(0))
    assert (balance.total_deposited, balance.usage_days_left) == (Decimal(50), Decimal("3.5"))
    assert balance.feature_key == "gpu-cloud"
    assert balance.hours_at(Decimal("2.96")) == 14
