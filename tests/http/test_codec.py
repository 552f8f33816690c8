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
    MachinePlanGroup,
    MachineSummary,
    Network,
    Port,
    PortProtocol,
    RegistryCredentials,
    Size,
    SpecError,
    Status,
    VMSpec,
)
from aiofluence.http.codec import (
    _converter,
    _quick_hook,
    check,
    payload,
    rename_payload,
    structure,
    structure_rows,
)
from aiofluence.http.messages import Answer, Call
from aiofluence.models.specs import Spec
from aiofluence.models.values import Kind

from ..harness import IMAGE, OTHER_IMAGE, SSH_KEY

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
        "image": IMAGE,
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


def test_null_arrays_and_times_of_any_zone() -> None:
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
def test_a_misfit_is_named_by_path_not_quoted(path: str, value: Any, where: str) -> None:
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
def test_both_converters_agree(path: str) -> None:
    rows = [altered(path, value) for value in (None, True, 0, 1.5, "x", "22", [], {}, [5], ["x"], {"x": 5})]
    without = altered(path, None)
    target, key = place(without, path)
    del target[key]
    for row in [*rows, without]:
        results: list[Container | None] = []
        for convert in (_quick_hook(Container), _converter().structure):
            try:
                results.append(convert(row, Container))
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


@pytest.mark.parametrize("body", [{}, "rows", 5, [None], [[]], [{}]])
def test_another_shape_is_a_decode_error(body: Any) -> None:
    with pytest.raises(DecodeError):
        structure(Answer(CALL, body), list[ContainerSummary])


def test_one_odd_row_does_not_hide_the_others() -> None:
    rows = [SUMMARY, SUMMARY | {"name": 7}, None, SUMMARY | {"created_at": "soon"}, SUMMARY | {"id": "i-2"}]
    good, odd = structure_rows(Answer(CALL, rows), ContainerSummary)
    assert [row.id for row in good] == ["i-1", "i-2"]
    assert [error.path for error in odd] == ["$[1].name", "$[2]", "$[3].created_at"]
    assert {error.call for error in odd} == {"GET /gpu/instances/"}


def test_null_is_an_empty_list() -> None:
    assert structure(Answer(CALL, None), list[ContainerSummary]) == []
    assert structure_rows(Answer(CALL, None), ContainerSummary) == ([], [])
    assert structure_rows(Answer(CALL, {"data": None}), ContainerSummary, field="data") == ([], [])
    for body, field in (
        ({}, None),
        ("rows", None),
        (0, None),
        ({}, "data"),
        ([], "data"),
        ({"data": 0}, "data"),
    ):
        with pytest.raises(DecodeError):
            structure_rows(Answer(CALL, body), ContainerSummary, field=field)


OPTION = {
    "id": "o-1",
    "location": "Finland 2",
    "provider": "p",
    **{name: RESOURCES["supply"][name] for name in ("vcpu", "memory", "storage")},  # type: ignore[index]
    "deployment_type": "VM",
    "pricing": {"hour": 1.5},
}


def test_an_odd_nested_row_hides_no_other() -> None:
    odd = OPTION | {"pricing": {"hour": -1}}
    numbers = [{"gpu_count": 1, "options": [odd, OPTION]}, {"gpu_count": "8"}, {"gpu_count": 2}]
    group = {"gpu_model": RESOURCES["gpu_model"], "availability_by_number": numbers}
    nested = ("availability_by_number", "options")
    good, left_out = structure_rows(
        Answer(CALL, {"data": [group]}), MachinePlanGroup, field="data", nested=nested
    )
    (made,) = good
    assert [number.gpu_count for number in made.availability_by_number] == [1, 2]
    assert [option.id for option in made.availability_by_number[0].options] == ["o-1"]
    assert [error.path for error in left_out] == [
        "$.data[0].availability_by_number[0].options[0].pricing.hour",
        "$.data[0].availability_by_number[1].gpu_count",
    ]


HUGE = 10**30
HOSTILE = [
    *(("billing.hourly_usage", value) for value in (-1, 1e999, "1E+999999999", "1e-999999", HUGE, "9" * 99)),
    *(
        ("billing.total_spendings", value)
        for value in (1e999, "1E+999999999", "-1E+99", "0E-99", "\u0661", "1_0")
    ),
    *(("created_at", value) for value in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z", "1" * 99_999)),
    *(("created_at", value) for value in ("\ud800", "", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z")),
    *(("resources.supply.gpu_count", value) for value in (-1, HUGE, 1.0)),
    *(("resources.supply.vcpu.count", value) for value in (-1, HUGE, 1e999)),
    *(("resources.supply.memory.count", value) for value in (-1, HUGE, 1e999, -1e999)),
    *(
        ("resources.gpu_model.vram", value)
        for value in ("9" * 400 + "Gi", "1" + " " * 99_999 + "!", "\u0661Gi")
    ),
    *(("network.forwarded_ports.0.external_port", value) for value in (-1, 65536, HUGE, "9" * 5000)),
    ("instance_status", "A" * 10_000),
]


@pytest.mark.parametrize(
    ("path", "value"), HOSTILE, ids=[f"{i}-{path}" for i, (path, _) in enumerate(HOSTILE)]
)
def test_values_out_of_bounds_are_decode_errors(path: str, value: Any) -> None:
    with pytest.raises(DecodeError) as caught:
        structure(Answer(CALL, altered(path, value)), Container)
    assert caught.value.path.startswith("$."), caught.value.path
    assert len(str(caught.value)) < 200


def test_a_row_nested_beyond_reason_is_left_out() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    machine = {**SUMMARY, "status": "ACTIVE"}
    good, odd = structure_rows(Answer(CALL, [deep, machine]), MachineSummary, under=Kind.VM)
    assert len(good) == len(odd) == 1


def test_money_is_read_as_it_is_written() -> None:
    for given, meant in (
        (0.1, "0.1"),
        ("1E+3", "1000"),
        (1e-7, "1E-7"),
        (-0.0, "0.0"),
        (5, "5"),
        ("0.440", "0.440"),
    ):
        row = structure(Answer(CALL, altered("billing.hourly_usage", given)), Container)
        assert str(row.billing.hourly_usage) == meant
    row = structure(Answer(CALL, altered("billing.total_spendings", -0.5)), Container)
    assert row.billing.total_spendings == Decimal("-0.5")


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
    update = ContainerUpdate.from_container(container, credentials=credentials, image=OTHER_IMAGE)
    assert update.problems() == []
    assert update.environment == {"A": "1"}
    assert update.ssh_key == SSH_KEY
    assert update.image == OTHER_IMAGE
    assert update.credentials is credentials
    assert not update.is_shown_by(container)
    assert ContainerUpdate.from_container(container).is_shown_by(container)
    with pytest.raises(TypeError, match="expose"):
        ContainerUpdate.from_container(container, expose=[80])


def test_a_variable_without_a_key_stays_one() -> None:
    two = f"{SSH_KEY}\n{SSH_KEY}"
    info = DETAIL["container_info"] | {  # type: ignore[operator]
        "environment": [{"name": "SSH_PUBKEY", "value": two}]
    }
    container = structure(Answer(CALL, DETAIL | {"container_info": info}), Container)
    update = ContainerUpdate.from_container(container, image=OTHER_IMAGE)
    assert update.problems() == []
    assert update.environment == {"SSH_PUBKEY": two}
    assert update.ssh_key is None
    assert ContainerUpdate.from_container(container).is_shown_by(container)
    other = ContainerUpdate.from_container(container, ssh_key=SSH_KEY)
    assert other.problems() == []
    assert other.environment == {}


def test_all_problems_of_all_specs_are_named() -> None:
    specs: list[Spec] = [
        ContainerSpec(name="Bad_1", plan_id="p", image="A", expose=[0]),
        VMSpec(name="fine", plan_id="p", ssh_key=SSH_KEY, os_image="x"),
        VMSpec(name="Bad_2", plan_id="", ssh_key="", os_image=""),
    ]
    with pytest.raises(SpecError) as caught:
        check(specs)
    assert len(caught.value.problems) == 3 + 3  # without a plan, the system of Bad_2 cannot be checked
    assert isinstance(caught.value, ValueError)
    for problem in caught.value.problems:
        assert problem.startswith(("Bad_1: ", "Bad_2: "))
        assert problem in str(caught.value)
