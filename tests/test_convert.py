"""The converter: strict where a guess would hide a mistake, lenient where the service may grow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest

from aiofluence import (
    Container,
    ContainerPlan,
    ContainerSpec,
    ContainerStatus,
    ContainerSummary,
    ContainerUpdate,
    DecodeError,
    Environment,
    ForwardedPort,
    Interface,
    Machine,
    Network,
    Port,
    PortProtocol,
    RegistryCredentials,
    Size,
    SpecError,
    Status,
    VMSpec,
)
from aiofluence.convert import _converter, check, payload, rename_payload, structure
from aiofluence.models.specs import Spec
from aiofluence.models.values import Kind
from aiofluence.protocol import Answer, Call

from .harness import SSH_KEY

CALL = Call("GET", "/gpu/instances/")

RESOURCES = {
    "supply": {
        "vcpu": {"count": 8},
        "memory": {"count": 32, "units": "Gi"},
        "storage": {"count": 100, "units": "Gi"},
        "gpu_count": 1,
    },
    "gpu_model": {"vendor": "nvidia", "model": "l4", "vram": "24Gi", "interface": "pcie"},
}
SUMMARY = {
    "id": "i-1",
    "name": "exp-1",
    "instance_status": "ACTIVE",
    "resources": RESOURCES,
    "domain": None,
    "location": "PL",
    "created_at": "2026-01-01T09:30:00.123456Z",
    "updated_at": "2026-01-01T09:32:00.000000Z",
}
BILLING = {
    "hourly_usage": 0.1,
    "total_spendings": 3,
    "reserved_amount": "0.20",
    "next_billing_period": "2026-01-01T10:00:00Z",
}
DETAIL = SUMMARY | {
    "container_status": "STARTED",
    "container_info": {
        "image": "ubuntu:22.04",
        "expose": [{"port": "22", "protocol": "tcp"}],
        "environment": [{"name": "A", "value": "1"}],
        "startup_command": None,
    },
    "billing": BILLING,
    "network": {
        "domain": "gpu.example",
        "forwarded_ports": [{"port": "22", "external_port": "31022", "protocol": "tcp"}],
        "uri": None,
    },
}


def test_a_container_in_full() -> None:
    container = structure(Answer(CALL, DETAIL), Container)
    assert container.status is Status.ACTIVE
    assert container.container_status is ContainerStatus.STARTED
    assert container.created_at == datetime(2026, 1, 1, 9, 30, 0, 123456, tzinfo=UTC)
    assert container.resources.gpu_model.vram == Size.parse("24Gi")
    assert container.resources.gpu_model.interface is Interface.PCIE
    assert container.resources.supply.vcpu == 8
    assert container.container_info.environment == Environment({"A": "1"})
    assert container.container_info.expose == (Port(22),)
    assert container.network == Network("gpu.example", (ForwardedPort(22, 31022, PortProtocol.TCP),), None)
    assert container.billing.hourly_usage == Decimal("0.1")  # not 0.1000000000000000055...
    assert container.billing.total_spendings == Decimal(3)
    assert container.billing.reserved_amount == Decimal("0.20")
    assert container.ref.kind is Kind.CONTAINER
    assert container.ref.ref is container.ref or container.ref.ref == container.ref


def test_a_machine_knows_its_kind() -> None:
    row = {key: value for key, value in SUMMARY.items() if key != "instance_status"}
    row |= {"status": "Initiated", "billing": BILLING, "ssh_key": "ssh-ed25519 canary"}
    machine = structure(Answer(CALL, row), Machine, under=Kind.BAREMETAL)
    assert machine.kind is Kind.BAREMETAL
    assert machine.status is Status.INITIALIZED
    assert machine.ssh_key == "ssh-ed25519 canary"
    assert "canary" not in repr(machine)
    assert machine.network is None


def test_a_service_that_grows_breaks_nothing() -> None:
    grown = DETAIL | {"instance_status": "HIBERNATED", "network": None, "carbon": {"grams": 1}}
    del grown["updated_at"]
    container = structure(Answer(CALL, grown), Container)
    assert container.status == "HIBERNATED"
    assert container.network is None
    assert container.updated_at is None


def test_null_arrays_and_naive_or_shifted_times_are_understood() -> None:
    info = {"image": "a", "expose": None, "environment": None}
    row = DETAIL | {"container_info": info, "created_at": "2026-01-01T09:30:00"}
    row["updated_at"] = "2026-01-01T11:30:00+02:00"
    container = structure(Answer(CALL, row), Container)
    assert container.container_info.expose == ()
    assert container.container_info.environment == {}
    assert container.created_at.tzinfo is UTC
    assert container.updated_at == container.created_at
    assert datetime(2026, 1, 1, 11, 30, tzinfo=timezone(timedelta(hours=2))) == container.updated_at


def altered(path: str, value: Any) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(json.dumps(DETAIL))
    target, key = place(row, path)
    target[key] = value
    return row


def place(row: Any, path: str) -> tuple[Any, Any]:
    name, _, rest = path.partition(".")
    key = int(name) if isinstance(row, list) else name
    return place(row[key], rest) if rest else (row, key)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("id", 5, "$.id"),
        ("id", None, "$.id"),
        ("name", None, "$.name"),
        ("instance_status", 1, "$.status"),
        ("created_at", "yesterday", "$.created_at"),
        ("created_at", 1767259800, "$.created_at"),
        ("resources", None, "$.resources"),
        ("resources.supply.gpu_count", True, "$.resources.supply.gpu_count"),
        ("resources.supply.gpu_count", "1", "$.resources.supply.gpu_count"),
        ("resources.supply.vcpu", 8, "$.resources.supply.vcpu"),
        ("resources.supply.memory.units", "parsec", "$.resources.supply.memory"),
        ("resources.gpu_model.vram", 24, "$.resources.gpu_model.vram"),
        ("billing.hourly_usage", "canary", "$.billing.hourly_usage"),
        ("billing.hourly_usage", "NaN", "$.billing.hourly_usage"),
        ("billing.hourly_usage", True, "$.billing.hourly_usage"),
        ("container_info.environment", {"A": "canary"}, "$.container_info.environment"),
        ("container_info.environment", [{"name": "A", "value": 5}], "$.container_info.environment"),
        ("container_info.expose", {"port": "22"}, "$.container_info.expose"),
        ("container_info.expose", [{"port": "ssh"}], "$.container_info.expose[0].number"),
        ("network", "down", "$.network"),
        ("network", [], "$.network"),
        ("network.forwarded_ports", [{"port": "1", "external_port": None}], "$.network.forwarded_ports"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path_and_not_quoted(path: str, value: Any, where: str) -> None:
    with pytest.raises(DecodeError) as caught:
        structure(Answer(CALL, altered(path, value)), Container)
    assert caught.value.path.startswith(where)
    assert caught.value.call == "GET /gpu/instances/"
    assert caught.value.__context__ is None
    assert "canary" not in f"{caught.value!r} {caught.value}"


def paths(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield str(key)
        if isinstance(inner, dict | list):
            yield from (f"{key}.{rest}" for rest in paths(inner))


@pytest.mark.parametrize("path", [*paths(DETAIL)])
def test_the_quick_converter_takes_what_the_other_takes_and_makes_the_same_of_it(path: str) -> None:
    rows = [altered(path, value) for value in (None, True, 0, 1.5, "x", "22", [], {}, [5], ["x"], {"x": 5})]
    without = altered(path, None)
    target, key = place(without, path)
    del target[key]
    for row in [*rows, without]:
        results: list[Container | None] = []
        for detailed in (False, True):
            try:
                results.append(_converter(detailed=detailed).structure(row, Container))
            except Exception:
                results.append(None)
        assert results[0] == results[1], row
        assert repr(results[0] and attrs.astuple(results[0])) == repr(
            results[1] and attrs.astuple(results[1])
        )  # tells 1 from True


def test_the_path_counts_rows() -> None:
    with pytest.raises(DecodeError) as caught:
        structure(Answer(CALL, [SUMMARY, SUMMARY, SUMMARY | {"name": 7}]), list[ContainerSummary])
    assert caught.value.path == "$[2].name"
    assert "expected str, got int" in str(caught.value)


@pytest.mark.parametrize("body", [None, {}, "rows", 5, [None], [[]], [{}]])
def test_an_answer_of_another_shape_is_a_decode_error(body: Any) -> None:
    if body == [] or body is None:
        pass
    with pytest.raises(DecodeError):
        structure(Answer(CALL, body), list[ContainerSummary])


def test_a_container_plan_is_flattened() -> None:
    plan = structure(
        Answer(
            CALL,
            {
                "plan": {
                    "id": "p-1",
                    "name": "l4-24gi",
                    **RESOURCES,
                    "pricing": {"hour": 0.44, "upfront_hours": 3, "currency": "USDC"},
                },
                "attributes": {"location": ["PL", "US"]},
            },
        ),
        ContainerPlan,
    )
    assert plan.locations == ("PL", "US")
    assert plan.pricing.upfront == Decimal("1.32")
    with pytest.raises(DecodeError):
        structure(Answer(CALL, {"plan": {}}), ContainerPlan)


def test_a_container_s_body_is_the_contract_s() -> None:
    spec = ContainerSpec(
        name="exp-1",
        plan_id="p-1",
        image="ghcr.io/me/train:1",
        expose=[22, "80/http"],
        environment={"A": "1"},
        startup_command="python train.py",
        credentials=RegistryCredentials("ghcr.io", "me", "pw"),
        location="PL",
        ssh_key=SSH_KEY,
    )
    assert json.loads(payload(spec)) == {
        "plan_id": "p-1",
        "name": "exp-1",
        "container_settings": {
            "image": "ghcr.io/me/train:1",
            "expose": [{"port": "22", "protocol": "tcp"}, {"port": "80", "protocol": "http"}],
            "environment": [{"name": "A", "value": "1"}],
            "startup_command": "python train.py",
            "credentials": {"host": "ghcr.io", "username": "me", "password": "pw"},
        },
        "constraints": {"location": "PL"},
        "ssh_key": SSH_KEY,
    }


def test_what_is_not_given_is_not_sent() -> None:
    spec = ContainerSpec(name="exp-1", plan_id="p-1", image="a", expose=[22])
    assert json.loads(payload(spec)) == {
        "plan_id": "p-1",
        "name": "exp-1",
        "container_settings": {"image": "a", "expose": [{"port": "22", "protocol": "tcp"}]},
    }


def test_machines_and_renames() -> None:
    spec = VMSpec(name="vm-1", plan_id="o-1", ssh_key=SSH_KEY, os_image="ubuntu-22.04")
    assert json.loads(payload(spec)) == {
        "plan_id": "o-1",
        "name": "vm-1",
        "ssh_key": SSH_KEY,
        "os_image": "ubuntu-22.04",
    }
    assert json.loads(rename_payload("vm-2")) == {"name": "vm-2"}
    with pytest.raises(SpecError, match="name"):
        rename_payload("VM 2")


def test_an_update_sends_no_ports() -> None:
    update = ContainerUpdate(name="a", image="b", environment={"A": "1"})
    assert json.loads(payload(update)) == {
        "name": "a",
        "container_settings": {"image": "b", "environment": [{"name": "A", "value": "1"}]},
    }


def test_a_read_modify_write_passes_both_traps() -> None:
    info = DETAIL["container_info"] | {  # type: ignore[operator]
        "environment": [{"name": "A", "value": "1"}, {"name": "SSH_PUBKEY", "value": SSH_KEY}]
    }
    container = structure(Answer(CALL, DETAIL | {"container_info": info}), Container)
    credentials = RegistryCredentials("ghcr.io", "me", "pw")
    update = ContainerUpdate.from_container(container, credentials=credentials, image="ubuntu:24.04")
    assert update.problems() == []
    assert update.environment == {"A": "1"}
    assert update.ssh_key == SSH_KEY
    assert update.image == "ubuntu:24.04"
    assert update.credentials is credentials
    assert not update.is_shown_by(container)
    assert ContainerUpdate.from_container(container).is_shown_by(container)
    with pytest.raises(TypeError, match="expose"):
        ContainerUpdate.from_container(container, expose=[80])


def test_a_variable_that_is_no_single_key_stays_a_variable() -> None:
    two = f"{SSH_KEY}\n{SSH_KEY}"
    info = DETAIL["container_info"] | {  # type: ignore[operator]
        "environment": [{"name": "SSH_PUBKEY", "value": two}]
    }
    container = structure(Answer(CALL, DETAIL | {"container_info": info}), Container)
    update = ContainerUpdate.from_container(container, image="ubuntu:24.04")
    assert update.problems() == []
    assert update.environment == {"SSH_PUBKEY": two}
    assert update.ssh_key is None
    assert ContainerUpdate.from_container(container).is_shown_by(container)
    other = ContainerUpdate.from_container(container, ssh_key=SSH_KEY)
    assert other.problems() == []
    assert other.environment == {}


def test_every_problem_of_every_spec_is_named_at_once() -> None:
    specs: list[Spec] = [
        ContainerSpec(name="Bad_1", plan_id="p", image="A", expose=[0]),
        VMSpec(name="fine", plan_id="p", ssh_key=SSH_KEY, os_image="x"),
        VMSpec(name="Bad_2", plan_id="", ssh_key="", os_image=""),
    ]
    with pytest.raises(SpecError) as caught:
        check(specs)
    assert len(caught.value.problems) == 3 + 4
    assert isinstance(caught.value, ValueError)
    for problem in caught.value.problems:
        assert problem.startswith(("Bad_1: ", "Bad_2: "))
        assert problem in str(caught.value)
