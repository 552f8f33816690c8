"""From deploy to the end, as the endpoints show it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aiofluence.simulator import Provisioning, Simulator

from .driver import EXACT, KEY, Driver, text

SUMMARY = {"id", "name", "resources", "domain", "location", "created_at", "updated_at"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
MACHINES: list[tuple[Any, str]] = [("vm", "/gpu/instances/vms"), ("baremetal", "/gpu/instances/baremetal")]


def test_a_container_comes_up_step_by_step() -> None:
    driver = Driver()
    path = f"/gpu/instances/{driver.deploy(driver.container_body())}"

    def at(now: float) -> tuple[Any, ...]:
        driver.now = now
        seen = driver.get(path)
        network = seen["network"]
        return seen["instance_status"], seen["container_status"], network and network["domain"] is not None

    assert at(0.0) == ("INITIALIZED", "NOT_STARTED", None)
    assert at(99.9) == ("INITIALIZED", "NOT_STARTED", None)
    assert at(100.0) == ("ACTIVE", "NOT_STARTED", None)
    assert at(104.0) == ("ACTIVE", "STARTED", None)
    assert at(106.0) == ("ACTIVE", "STARTED", False)
    assert at(121.0) == ("ACTIVE", "STARTED", True)


def test_container_fields_follow_the_contract() -> None:
    driver = Driver()
    instance_id = driver.active_container(expose=[{"port": "80", "protocol": "http"}, {"port": "22"}])
    (row,) = driver.get("/gpu/instances/")
    assert set(row) == SUMMARY | {"instance_status"}
    assert row["resources"]["gpu_model"]["interface"] == "pcie"
    assert TIME.fullmatch(row["created_at"])
    assert TIME.fullmatch(row["updated_at"])
    detail = driver.get(f"/gpu/instances/{instance_id}")
    assert row == {key: detail[key] for key in row}
    assert set(detail) == set(row) | {"container_status", "container_info", "billing", "network"}
    assert set(detail["container_info"]) == {"image", "expose", "environment", "startup_command"}
    assert set(detail["billing"]) == {
        "hourly_usage", "total_spendings", "reserved_amount", "next_billing_period",
    }  # fmt: skip
    network = detail["network"]
    assert set(network) == {"domain", "forwarded_ports", "uri"}
    assert network["domain"] == detail["domain"]
    assert network["uri"].startswith("http://")
    (port,) = network["forwarded_ports"]
    assert (port["port"], port["protocol"]) == ("22", "tcp")
    assert isinstance(port["external_port"], str)
    assert port["external_port"].isdigit()


def test_no_uri_without_http() -> None:
    driver = Driver()
    assert driver.get(f"/gpu/instances/{driver.active_container()}")["network"]["uri"] is None


@pytest.mark.parametrize(("kind", "path"), MACHINES)
def test_machine_fields_follow_the_contract(kind: Any, path: str) -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.vm_body(kind=kind), path)
    early = driver.get(f"{path}/{instance_id}")
    assert early["status"] == "INITIALIZED"
    assert early["ssh_connection"] is early["network"] is None
    driver.now = 100.0
    (row,) = driver.get(path)
    assert set(row) == SUMMARY | {"status"}
    detail = driver.get(f"{path}/{instance_id}")
    assert set(detail) == set(row) | {
        "availability", "os_image", "ssh_connection", "ssh_key", "billing", "network",
    }  # fmt: skip
    assert detail["status"] == "ACTIVE"
    assert detail["availability"] == kind
    assert detail["ssh_key"] == KEY
    assert re.fullmatch(r"ssh \w+@203\.0\.113\.\d+", detail["ssh_connection"])
    assert detail["network"] == {"domain": None, "forwarded_ports": [], "uri": None}


def test_the_ssh_key_is_shown_as_a_variable() -> None:
    driver = Driver()
    body = driver.container_body(
        environment=[{"name": "A", "value": "1"}],
        credentials={"host": "ghcr.io", "username": "me", "password": "hunter2"},
    )
    instance_id = driver.deploy(body | {"ssh_key": KEY})
    driver.now = 200.0
    reply = driver.send("GET", f"/gpu/instances/{instance_id}")
    assert b"hunter2" not in reply.body
    assert text(reply)["container_info"]["environment"] == [
        {"name": "A", "value": "1"},
        {"name": "SSH_PUBKEY", "value": KEY},
    ]


def test_ssh_pubkey_beside_a_key_fails() -> None:
    driver = Driver()
    body = driver.container_body(environment=[{"name": "SSH_PUBKEY", "value": KEY}]) | {"ssh_key": KEY}
    instance_id = driver.deploy(body)
    driver.now = 100.0
    assert driver.get(f"/gpu/instances/{instance_id}")["instance_status"] == "FAILED"
    assert any("SSH_PUBKEY" in event for event in driver.get(f"/gpu/instances/{instance_id}/events"))


@pytest.mark.parametrize("kind", ["container", "vm", "baremetal"])
def test_only_active_instances_can_be_terminated(kind: Any) -> None:
    driver = Driver()
    folder = {
        "container": "/gpu/instances",
        "vm": "/gpu/instances/vms",
        "baremetal": "/gpu/instances/baremetal",
    }
    body = driver.container_body() if kind == "container" else driver.vm_body(kind=kind)
    instance_id = driver.deploy(body, "/gpu/instances/" if kind == "container" else folder[kind])
    path = f"{folder[kind]}/{instance_id}"
    status = "instance_status" if kind == "container" else "status"
    refused = (400, b'{"detail": "Only ACTIVE instances can be terminated"}')

    def delete() -> tuple[int, bytes]:
        reply = driver.send("DELETE", path)
        return reply.status, reply.body

    assert delete() == refused
    driver.now = 100.0
    assert delete() == (204, b"")
    ended = driver.get(path)
    assert ended[status] == "ENDED"
    assert ended["network"] is ended["domain"] is ended["billing"]["next_billing_period"] is None
    assert delete() == refused
    driver.sim.fail_next_provisioning()
    failing = driver.deploy(body, "/gpu/instances/" if kind == "container" else folder[kind])
    driver.now = 300.0
    path = f"{folder[kind]}/{failing}"
    assert driver.get(path)[status] == "FAILED"
    assert delete() == refused


def test_ended_instances_stay_oldest_first() -> None:
    driver = Driver()
    first = driver.active_container()
    driver.send("DELETE", f"/gpu/instances/{first}")
    driver.sim.fail_next_provisioning()
    second = driver.deploy(driver.container_body("second"))
    driver.now = 400.0
    third = driver.deploy(driver.container_body("third"))
    driver.now = 10_000_000.0
    rows = driver.get("/gpu/instances/")
    assert [row["id"] for row in rows] == [first, second, third]
    assert [row["instance_status"] for row in rows[:2]] == ["ENDED", "FAILED"]


def test_kinds_are_kept_apart() -> None:
    driver = Driver()
    container = driver.deploy(driver.container_body())
    vm = driver.deploy(driver.vm_body(), "/gpu/instances/vms")
    for path in (f"vms/{container}", f"baremetal/{vm}", vm, f"{vm}/logs", f"{vm}/events", "no-such-id"):
        reply = driver.send("GET", f"/gpu/instances/{path}")
        assert (reply.status, text(reply)) == (404, {"detail": "Instance not found"})
    assert driver.send("DELETE", "/gpu/instances/nothing").status == 404
    assert driver.send("PUT", "/gpu/instances/vms/nothing", {"name": "x"}).status == 404
    assert driver.get("/gpu/instances/baremetal") == []


@pytest.mark.parametrize(("kind", "path"), MACHINES)
def test_machines_can_be_renamed_and_nothing_else(kind: Any, path: str) -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.vm_body("old", kind=kind), path)
    reply = driver.send("PUT", f"{path}/{instance_id}", {"name": "new", "ssh_key": "other"})
    assert (reply.status, reply.body) == (204, b"")
    detail = driver.get(f"{path}/{instance_id}")
    assert (detail["name"], detail["ssh_key"]) == ("new", KEY)
    assert driver.send("PUT", f"{path}/{instance_id}", {"name": "No"}).status == 422
    driver.now = 100.0
    driver.send("DELETE", f"{path}/{instance_id}")
    assert driver.send("PUT", f"{path}/{instance_id}", {"name": "later"}).status == 400


def test_a_new_id_is_unknown_while_the_list_lags() -> None:
    driver = Driver(list_lag=30.0)
    instance_id = driver.deploy(driver.container_body())
    path = f"/gpu/instances/{instance_id}"
    driver.now = 29.9
    assert driver.get("/gpu/instances/") == []
    assert driver.send("GET", path).status == 404
    assert driver.sim.get_instance(instance_id).live
    driver.now = 30.0
    assert [row["id"] for row in driver.get("/gpu/instances/")] == [instance_id]
    assert driver.get(path)["id"] == instance_id


def test_failures_and_times_follow_the_options() -> None:
    sim = Simulator(7, profile="kind", provisioning=Provisioning(failure_rate=0.3), balance=10**9)
    driver = Driver(sim)
    for index in range(1000):
        driver.deploy(driver.container_body(f"job-{index}"))
    sim.advance(3600.0)
    instances = sim.instances("container")
    assert not any(i.state == "INITIALIZED" for i in instances)
    assert 250 < sum(i.state == "FAILED" for i in instances) < 350
    sim = Simulator(7, profile="kind", balance=10**9)
    driver = Driver(sim)
    for index in range(1000):
        driver.deploy(driver.vm_body(f"job-{index}"), "/gpu/instances/vms")
    sim.advance(3600.0)
    ready = sorted(i.updated_at for i in sim.instances())
    assert 140 < ready[500] < 160
    assert ready[0] > 50
    assert ready[-1] < 450


def test_fail_next_strikes_so_many_and_no_more() -> None:
    driver = Driver()
    driver.sim.fail_next_provisioning(2)
    ids = [driver.deploy(driver.container_body(f"job-{index}")) for index in range(3)]
    driver.sim.advance(100.0)
    assert [driver.sim.get_instance(i).state.value for i in ids] == ["FAILED", "FAILED", "ACTIVE"]


def test_provisioning_changes_for_later_deploys() -> None:
    driver = Driver()
    slow = driver.sim.get_instance(driver.deploy(driver.container_body("slow")))
    driver.sim.provisioning = Provisioning(median=10.0, sigma=0.0)
    fast = driver.sim.get_instance(driver.deploy(driver.container_body("fast")))
    driver.sim.advance(10.0)
    assert (slow.state.value, fast.state.value) == ("INITIALIZED", "ACTIVE")


@pytest.mark.parametrize("wrong", [{"median": -1.0}, {"failure_rate": 1.5}, {"update_delay": float("nan")}])
def test_provisioning_refuses_nonsense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Provisioning(**wrong)


def test_equal_seeds_in_any_order() -> None:
    def run(seed: int, names: list[str]) -> dict[str, Any]:
        driver = Driver(Simulator(seed, profile="kind", provisioning=Provisioning(failure_rate=0.2)))
        for name in names:
            driver.deploy(driver.container_body(name))
        driver.now = 400.0
        found = {}
        for row in driver.get("/gpu/instances/"):
            path = f"/gpu/instances/{row['id']}"
            found[row["name"]] = (driver.get(path), driver.get(f"{path}/logs"), driver.get(f"{path}/events"))
        return found

    names = [f"job-{index}" for index in range(20)]
    assert run(1, names) == run(1, names[::-1])
    assert run(1, names) != run(2, names)


def test_reading_logs_changes_nothing() -> None:
    def pods(read: bool) -> Any:
        driver = Driver()
        instance_id = driver.active_container()
        if read:
            driver.get(f"/gpu/instances/{instance_id}/logs")
        driver.send("PUT", f"/gpu/instances/{instance_id}", driver.container_body())
        driver.now = 300.0
        return driver.get(f"/gpu/instances/{instance_id}/logs")

    assert pods(True) == pods(False)


def test_time_never_goes_back() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.get("/gpu/instances/")
    driver.now = 0.0
    assert driver.get(f"/gpu/instances/{instance_id}")["instance_status"] == "ACTIVE"
    assert driver.sim.now == 200.0


def test_history_costs_nothing() -> None:
    driver = Driver()
    for kind, path in (("container", "/gpu/instances/"), *MACHINES):
        driver.sim.add_ended(3, kind)
        rows = driver.get(path)
        assert len(rows) == 3
        for row in rows:
            driver.get(f"{path.rstrip('/')}/{row['id']}")
    assert not driver.sim.ledger
    assert not driver.sim.live()


def test_the_cached_row_is_the_row_of_the_moment() -> None:
    driver = Driver(provisioning=EXACT)
    instance_id = driver.deploy(driver.container_body())
    for driver.now in (0.0, 100.0, 104.0, 106.0, 121.0, 3600.0):
        detail = driver.get(f"/gpu/instances/{instance_id}")
        (row,) = driver.get("/gpu/instances/")
        assert row == {key: detail[key] for key in row}
