"""Machines, money, stock and keys under the profile `likely`, and each of its habits by itself."""

from __future__ import annotations

import re
from statistics import median
from typing import Any

import pytest

from aiofluence.http.messages import Request
from aiofluence.simulator import DEFAULT_API_KEY, KIND, LIKELY, Profile, Simulator

from .driver import EXACT, KEY, Driver, request, text

MACHINES: list[tuple[Any, str]] = [("vm", "/gpu/instances/vms"), ("baremetal", "/gpu/instances/baremetal")]
REFUSED = "Minimum runtime not met"


def likely(**changes: Any) -> Driver:
    return Driver(Simulator(profile=LIKELY.replace(provisioning=EXACT).replace(**changes)))


def machine(driver: Driver, kind: Any = "vm", path: str = "/gpu/instances/vms", name: str = "box") -> str:
    """A machine that becomes ACTIVE 100 seconds later; its path."""
    return f"{path}/{driver.deploy(driver.vm_body(name, kind=kind), path)}"


# DELETE


@pytest.mark.parametrize(("kind", "path"), MACHINES)
def test_delete_is_refused_for_twenty_minutes(kind: Any, path: str) -> None:
    driver = likely()
    box = machine(driver, kind, path)
    for driver.now, left in ((100.0, 20), (101.0, 20), (800.0, 9), (1299.0, 1)):
        reply = driver.send("DELETE", box)
        unit = "minute" if left == 1 else "minutes"
        assert (reply.status, text(reply)) == (400, {"detail": f"{REFUSED}. {left} {unit} remaining"})
    assert driver.get(box)["status"] == "ACTIVE"
    driver.now = 1300.0
    assert driver.send("DELETE", box).status == 204
    assert driver.get(box)["status"] == "ENDED"


def test_the_minimum_runtime_is_billed() -> None:
    # 9:30 is second 0: the machine is ACTIVE at 9:50:40, and may go 20 minutes later, in the next clock hour.
    driver = likely(provisioning={"median": 1240.0})
    box = machine(driver)
    driver.now = 1300.0
    assert driver.send("DELETE", box).status == 400
    driver.now = 2500.0
    assert driver.send("DELETE", box).status == 204
    assert driver.sim.spent() == 2 * driver.sim.catalog.find("vm").hourly
    assert driver.sim.reserved() == 0


def test_refusals_without_the_time_left() -> None:
    driver = likely(minimum_runtime_text="plain", minimum_runtime=60)
    box = machine(driver)
    driver.now = 130.0
    assert text(driver.send("DELETE", box)) == {"detail": REFUSED}
    driver.now = 160.0
    assert driver.send("DELETE", box).status == 204
    none = likely(minimum_runtime=0)
    box = machine(none)
    none.now = 100.0
    assert none.send("DELETE", box).status == 204


def test_only_containers_are_deleted_at_once() -> None:
    driver = likely()
    path = f"/gpu/instances/{driver.deploy(driver.container_body(image='nginx'))}"
    box = machine(driver)
    assert "ACTIVE" in text(driver.send("DELETE", box))["detail"]
    driver.now = 100.0
    assert driver.send("DELETE", path).status == 204


# Addresses


def test_a_machines_domain_is_its_ip() -> None:
    driver = likely()
    box = machine(driver)
    shown = []
    row: Any = None
    for driver.now in (49.0, 51.0, 101.0):
        (row,) = driver.get("/gpu/instances/vms")
        detail = driver.get(box)
        assert "domain" not in detail
        shown.append((row["status"], row["domain"] is not None, detail["network"] is not None))
    assert shown == [("INITIALIZED", False, False), ("INITIALIZED", True, False), ("ACTIVE", True, True)]
    detail = driver.get(box)
    assert detail["network"] == {"domain": row["domain"], "forwarded_ports": [], "uri": None}
    assert detail["ssh_connection"].endswith(f"@{row['domain']}")
    driver.now = 1300.0
    driver.send("DELETE", box)
    assert driver.get("/gpu/instances/vms")[0]["domain"] is driver.get(box)["network"] is None


def test_the_address_with_active_or_never() -> None:
    driver = likely(machine_address="active")
    machine(driver)
    driver.now = 99.0
    assert driver.get("/gpu/instances/vms")[0]["domain"] is None
    driver.now = 100.0
    assert driver.get("/gpu/instances/vms")[0]["domain"]
    driver = likely(machine_address="never")
    machine(driver)
    driver.now = 100.0
    assert driver.get("/gpu/instances/vms")[0]["domain"] is None


def test_login_users_differ_by_provider() -> None:
    users: dict[str, set[str]] = {}
    for login_by in ("provider", "os"):
        driver = likely(login_by=login_by, minimum_runtime=0)
        for offer in driver.sim.catalog.offers.values():
            if offer.kind == "vm":
                body = {"plan_id": offer.id, "name": "x", "ssh_key": KEY, "os_image": offer.os_options[0]}
                path = f"/gpu/instances/vms/{driver.deploy(body, '/gpu/instances/vms')}"
                driver.now += 100.0
                connection = driver.get(path)["ssh_connection"]
                driver.send("DELETE", path)
                users.setdefault(f"{login_by} {offer.provider}", set()).add(
                    connection.split()[1].split("@")[0]
                )
    assert users == {
        "provider massed-compute": {"ubuntu"},
        "provider sesterce": {"user"},
        "os massed-compute": {"ubuntu"},
        "os sesterce": {"ubuntu"},
    }


def test_a_failed_machine_may_read_ended() -> None:
    for status in ("FAILED", "ENDED"):
        driver = likely(failed_machine_detail=status)
        driver.sim.fail_next_provisioning()
        box = machine(driver)
        driver.now = 100.0
        assert driver.get("/gpu/instances/vms")[0]["status"] == "FAILED"
        assert (driver.get(box)["status"], driver.get(box)["billing"]["total_spendings"]) == (status, 0)


def test_lists_begin_with_the_newest() -> None:
    driver = likely()
    boxes = [machine(driver, name=f"x-{n}").rpartition("/")[2] for n in range(3)]
    assert [row["id"] for row in driver.get("/gpu/instances/vms")] == boxes[::-1]
    driver.sim.profile = driver.sim.profile.replace(list_order="oldest")
    assert [row["id"] for row in driver.get("/gpu/instances/vms")] == boxes


# Times


def test_times_differ_by_kind_and_outcome() -> None:
    times: dict[str, float] = {}
    for name, failures in (("container", 0), ("vm", 0), ("failed vm", 99)):
        driver = Driver(Simulator(profile=LIKELY, balance=10**6))
        driver.sim.fail_next_provisioning(failures)
        for index in range(99):
            if name == "container":
                driver.deploy(driver.container_body(f"x-{index}", image="nginx"))
            else:
                machine(driver, name=f"x-{index}")
        driver.sim.advance(50.0 if failures else 400.0)
        times[name] = median(
            i.updated_at if failures else i.active_at
            for i in driver.sim.instances()
            if i.state != "INITIALIZED"
        )
    assert times["container"] == pytest.approx(72, rel=0.1)
    assert times["vm"] == pytest.approx(119, rel=0.1)
    assert times["failed vm"] == pytest.approx(33, rel=0.1)


# Money


def test_amounts_are_rounded() -> None:
    driver = likely()
    offer = driver.sim.catalog.find("vm", "l40")
    assert str(offer.hourly) == "0.755"
    body = {"plan_id": offer.id, "name": "x", "ssh_key": KEY, "os_image": offer.os_options[0]}
    path = f"/gpu/instances/vms/{driver.deploy(body, '/gpu/instances/vms')}"

    def bill(now: float) -> Any:
        driver.now = now
        return driver.get(path)["billing"]

    early = bill(0.0)
    assert early == {
        "hourly_usage": 0.76, "total_spendings": 0.76, "reserved_amount": 1.51, "next_billing_period": None,
    }  # fmt: skip
    assert bill(100.0) == early | {"next_billing_period": "2026-01-01T10:00:00Z"}
    hour = bill(1801.0)
    assert (hour["total_spendings"], hour["reserved_amount"]) == (1.51, 0.76)
    assert hour["next_billing_period"] == "2026-01-01T11:00:00Z"
    assert bill(2401.0)["reserved_amount"] == 1.51
    driver.send("DELETE", path)
    assert bill(2500.0) == {
        "hourly_usage": 0, "total_spendings": 1.51, "reserved_amount": 0, "next_billing_period": None,
    }  # fmt: skip
    exact = likely(
        rounded_amounts=False, hourly_usage_after_end="price", billing_period="live", top_up_delay=0
    )
    path = f"/gpu/instances/vms/{exact.deploy(body, '/gpu/instances/vms')}"
    billing = exact.get(path)["billing"]
    assert (billing["hourly_usage"], billing["reserved_amount"]) == (0.755, 1.51)
    assert billing["next_billing_period"] == "2026-01-01T10:00:00.000000Z"


def test_an_end_before_the_top_up() -> None:
    driver = likely(minimum_runtime=0)
    box = machine(driver)
    driver.now = 1900.0
    assert driver.send("DELETE", box).status == 204
    driver.sim.advance(10_000.0)
    assert driver.sim.balance == driver.sim.opening_balance - driver.sim.spent()
    assert [entry.kind for entry in driver.sim.ledger] == ["deploy", "refund"]


# Stock


def test_launches_use_up_capacity() -> None:
    driver = likely(capacity=2)
    ids = [driver.deploy(driver.container_body(f"x-{n}", image="nginx")) for n in range(2)]
    plan = driver.container_body()["plan_id"]
    refused = driver.send("POST", "/gpu/instances/", driver.container_body("x-3"))
    assert (refused.status, text(refused)) == (400, {"detail": "Plan is no longer available"})
    assert plan not in {row["plan"]["id"] for row in driver.get("/gpu/plans/")}
    driver.now = 100.0
    assert driver.send("DELETE", f"/gpu/instances/{ids[0]}").status == 204
    assert plan in {row["plan"]["id"] for row in driver.get("/gpu/plans/")}
    driver.deploy(driver.container_body("x-4", image="nginx"))
    driver.sim.set_capacity(plan, 3)
    driver.deploy(driver.container_body("x-5", image="nginx"))
    with pytest.raises(LookupError):
        driver.sim.set_capacity("none", 1)


def test_the_catalogue_has_free_text_places() -> None:
    driver = likely()
    plans = [row["plan"] for row in driver.get("/gpu/plans/")]
    assert all(re.fullmatch(r"[a-z0-9]+-\d+gi-(sxm|pcie)-\dgpu-\d+cpu-\d+gi-\d+gi", p["name"]) for p in plans)
    cheapest = min(
        (p for p in plans if p["gpu_model"]["model"] == "a100"), key=lambda p: p["pricing"]["hour"]
    )
    assert cheapest["gpu_model"]["vram"] == "40Gi"
    small = next(p for p in plans if p["name"] == "a100-80gi-sxm-1gpu-1cpu-1gi-1gi")
    assert small["supply"]["memory"] == {"count": 1, "units": "Gi"}
    options = [
        option
        for group in driver.get("/gpu/plans/vms")["data"]
        for number in group["availability_by_number"]
        for option in number["options"]
    ]
    assert {option["provider"] for option in options} == {"massed-compute", "sesterce"}
    assert {"us-central-3", "sanjose-usa-2", "Finland 2", "Texas"} <= {o["location"] for o in options}
    assert {system for option in options for system in option["os_options"]} == {
        "Ubuntu Server 22.04", "ubuntu22.04_cuda12.4_shade_os", "ubuntu24.04",
    }  # fmt: skip
    images = {row["image"] for row in driver.get("/gpu/default-images/")}
    assert "docker.io/fluencelabs/ubuntu-ssh-root:24.04" in images
    driver.sim.profile = "kind"
    assert driver.get("/gpu/plans/")[0]["plan"]["name"].endswith("gb")


# Keys and the account


@pytest.mark.parametrize("profile", ["kind", "likely"])
def test_keys_that_are_read_only_or_expired(profile: Any) -> None:
    driver = Driver(Simulator(profile=profile))
    driver.sim.key_state = "read-only"
    refused = driver.send("GET", "/gpu/plans/")
    assert (refused.status, text(refused)["code"]) == (403, "forbidden")
    assert "read-only" in text(refused)["error"]
    assert driver.get("/v1/users/me")["permissions"] == ["read"]
    driver.sim.key_state = "expired"
    assert "expired" in text(driver.send("GET", "/v2/users/balances"))["error"]
    with pytest.raises(ValueError, match="key_state"):
        driver.sim.key_state = "lost"  # type: ignore[assignment]
    driver.sim.reset()
    assert driver.send("GET", "/gpu/plans/").status == 200


def test_a_401_in_place_of_the_403() -> None:
    driver = likely(unauthorised_status=401)
    reply = driver.sim.handle(Request("GET", "/gpu/plans/"), 0.0)
    assert (reply.status, text(reply)["code"]) == (401, "unauthorized")


def test_a_bearer_token_opens_what_a_key_opens() -> None:
    headers = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}
    reply = Simulator().handle(Request("GET", "/v2/users/balances", headers=headers), 0.0)
    assert reply.status == 200


def test_the_balance() -> None:
    driver = likely()
    (row,) = driver.get("/v2/users/balances")
    assert set(row) == {
        "balance", "usage", "estimatedUsage", "overage", "totalDepositedAmount", "usageDaysLeft", "userId",
        "featureKey",
    }  # fmt: skip
    assert (row["balance"], row["usage"], row["usageDaysLeft"]) == ("1000", "0", None)
    machine(driver)
    hourly = driver.sim.catalog.find("vm").hourly
    driver.sim.set_balance(2000)
    (row,) = driver.get("/v2/users/balances")
    assert row["usage"] == row["estimatedUsage"] == str(hourly)
    assert row["totalDepositedAmount"] == str(2000 + 3 * hourly)
    assert row["usageDaysLeft"] == int(2000 / (24 * hourly))


# The profile


def test_presets_by_name_and_the_default() -> None:
    assert Simulator().profile == Simulator(profile="likely").profile == Profile.of("likely") == LIKELY
    assert Simulator(profile="kind").profile == Profile() == KIND
    sim = Simulator(profile="kind")
    sim.profile = "likely"
    assert sim.profile is LIKELY
    sim.reset()
    assert sim.profile == KIND
    with pytest.raises(ValueError, match="likely or kind"):
        Simulator(profile="nice")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"nothing": 1}, "nothing: no such field"),
        ({"cluster": {"nothing": 1}}, "cluster.nothing: no such field"),
        ({"restarts": 1}, "restarts: 1 has another type"),
        ({"capacity": True}, "capacity: True has another type"),
        ({"capacity": 0}, "capacity"),
        ({"minimum_runtime": -1}, "minimum_runtime"),
        ({"minimum_runtime": float("nan")}, "minimum_runtime"),
        ({"logs_after_end": "maybe"}, "logs_after_end"),
        ({"unauthorised_status": 404}, "unauthorised_status"),
        ({"cluster": {"last_max": -1}}, "cluster: last_max"),
        ({"provisioning": {"median": "long"}}, "provisioning.median"),
    ],
)
def test_a_profile_refuses_nonsense(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        LIKELY.replace(**changes)


def test_equal_seeds_give_equal_runs_under_likely() -> None:
    def run(seed: int) -> list[Any]:
        driver = Driver(Simulator(seed, profile="likely"))
        for index in range(5):
            driver.deploy(driver.container_body(f"x-{index}"))
            driver.deploy(driver.vm_body(f"x-{index}"), "/gpu/instances/vms")
        driver.now = 2000.0
        paths = ("/gpu/instances/", "/gpu/instances/vms")
        return [driver.sim.handle(request("GET", path), driver.now).body for path in paths]

    assert run(1) == run(1) != run(2)
