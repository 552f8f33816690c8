"""Money: what is taken when, and that it always adds up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given, strategies as st

from aiofluence.simulator import Provisioning, Simulator

from .driver import Driver

HOUR = Decimal("0.44")  # of the RTX 4090 that the driver deploys; the service starts at 9:30 UTC


def movements(driver: Driver) -> list[tuple[float, str, Decimal]]:
    return [(entry.at, entry.kind, entry.amount) for entry in driver.sim.ledger]


def billing(driver: Driver, instance_id: str) -> dict[str, Any]:
    found = driver.get(f"/gpu/instances/{instance_id}")["billing"]
    assert isinstance(found, dict)
    return found


def test_a_deploy_reserves_three_hours() -> None:
    driver = Driver(balance=10)
    instance_id = driver.deploy(driver.container_body())
    assert movements(driver) == [(0.0, "deploy", -3 * HOUR)]
    assert billing(driver, instance_id) == {
        "hourly_usage": 0.44,
        "total_spendings": 0.44,
        "reserved_amount": 0.88,
        "next_billing_period": "2026-01-01T10:00:00.000000Z",
    }
    driver.now = 1799.9
    assert billing(driver, instance_id)["total_spendings"] == 0.44
    driver.now = 1800.0
    assert billing(driver, instance_id) == {
        "hourly_usage": 0.44,
        "total_spendings": 0.88,
        "reserved_amount": 0.88,
        "next_billing_period": "2026-01-01T11:00:00.000000Z",
    }
    driver.now = 1800.0 + 3600.0
    driver.get("/gpu/instances/")
    assert movements(driver)[1:] == [(1800.0, "top_up", -HOUR), (5400.0, "top_up", -HOUR)]


def test_termination_refunds_the_reserve() -> None:
    driver = Driver(balance=10)
    instance_id = driver.active_container()
    driver.send("DELETE", f"/gpu/instances/{instance_id}")
    assert movements(driver)[1:] == [(200.0, "refund", 2 * HOUR)]
    assert driver.sim.balance == 10 - HOUR
    assert driver.sim.spent() == driver.sim.spent(instance_id) == HOUR
    assert driver.sim.reserved() == 0
    assert billing(driver, instance_id)["next_billing_period"] is None
    driver.now = 1_000_000.0
    driver.get("/gpu/instances/")
    assert len(driver.sim.ledger) == 2


def test_a_failed_provisioning_is_refunded() -> None:
    driver = Driver(balance=10, provisioning=Provisioning(median=4000.0, sigma=0.0, failure_rate=1.0))
    driver.deploy(driver.container_body())
    driver.sim.advance(4000.0)
    assert [kind for _, kind, _ in movements(driver)] == ["deploy", "top_up", "refund"]
    assert driver.sim.balance == 10
    assert driver.sim.spent() == 0
    assert not driver.sim.live()


def test_an_empty_account_ends_the_instance() -> None:
    driver = Driver(balance=3 * HOUR)
    instance_id = driver.deploy(driver.container_body())
    path = f"/gpu/instances/{instance_id}"
    driver.now = 8999.9  # 12:00 UTC less a moment: the third clock hour
    assert driver.get(path)["instance_status"] == "ACTIVE"
    assert billing(driver, instance_id)["reserved_amount"] == 0
    driver.now = 9000.0
    assert driver.get(path)["instance_status"] == "ENDED"
    assert driver.sim.spent() == 3 * HOUR
    assert driver.sim.balance == 0


def test_money_in_time_fills_the_reserve() -> None:
    driver = Driver(balance=3 * HOUR)
    instance_id = driver.deploy(driver.container_body())
    driver.sim.advance(5400.0)  # two clock hours later: nothing reserved
    assert driver.sim.reserved(instance_id) == 0
    driver.sim.set_balance(100)
    driver.sim.advance(5401.0)
    assert driver.sim.reserved(instance_id) == 0  # only at clock hours
    driver.sim.advance(9000.0)
    assert driver.sim.get_instance(instance_id).state.value == "ENDED"
    other = driver.sim.get_instance(driver.deploy(driver.container_body("other")))
    driver.sim.set_balance(0)
    driver.sim.advance(12_600.0)
    assert other.bill.reserved == HOUR
    driver.sim.set_balance(100)
    driver.sim.advance(16_200.0)
    assert other.bill.reserved == 2 * HOUR


def test_an_empty_account_fails_provisioning() -> None:
    driver = Driver(balance=3 * HOUR, provisioning=Provisioning(median=10**6, sigma=0.0))
    driver.deploy(driver.container_body())
    driver.sim.advance(9000.0)
    assert [i.state.value for i in driver.sim.instances()] == ["FAILED"]
    assert driver.sim.balance == 3 * HOUR


def test_a_refused_deploy_costs_nothing() -> None:
    driver = Driver(balance=1)
    assert driver.send("POST", "/gpu/instances/", driver.container_body()).status == 400
    assert driver.sim.ledger == ()


steps = st.lists(
    st.tuples(
        st.sampled_from(["container", "vm", "delete", "balance", "wait", "fail"]),
        st.integers(0, 5000),
    ),
    max_size=40,
)


@given(steps=steps, seed=st.integers(0, 1000))
def test_money_always_adds_up(steps: list[tuple[str, int]], seed: int) -> None:
    sim = Simulator(seed, profile="kind", balance="50", provisioning=Provisioning(failure_rate=0.2))
    driver = Driver(sim)
    for number, (action, amount) in enumerate(steps):
        if action == "container":
            driver.send("POST", "/gpu/instances/", driver.container_body(f"job-{number}"))
        elif action == "vm":
            driver.send("POST", "/gpu/instances/vms", driver.vm_body(f"job-{number}"))
        elif action == "delete" and (live := sim.live()):
            chosen = live[amount % len(live)]
            folder = "" if chosen.kind == "container" else "vms/"
            driver.send("DELETE", f"/gpu/instances/{folder}{chosen.id}")
        elif action == "balance":
            sim.set_balance(Decimal(amount) / 100)
        elif action == "fail":
            sim.fail_next_provisioning()
        else:
            driver.now += amount
            sim.advance(driver.now)
        check_sums(sim)
    sim.advance(driver.now + 100_000.0)
    check_sums(sim)


def check_sums(sim: Simulator) -> None:
    ledger = sim.ledger
    assert sim.opening_balance + sum(entry.amount for entry in ledger) == sim.balance
    running = sim.opening_balance
    for entry in ledger:
        running += entry.amount
        assert entry.balance_after == running
    charged = -sum(entry.amount for entry in ledger if entry.kind != "adjustment")
    assert charged == sim.spent() + sim.reserved()
    assert sim.balance >= 0
    for instance in sim.instances():
        own = -sum(entry.amount for entry in ledger if entry.instance_id == instance.id)
        assert own == instance.bill.spent + instance.bill.reserved
        assert instance.live or instance.bill.reserved == 0
        assert instance.state.value != "FAILED" or own == 0
    assert [entry.at for entry in ledger] == sorted(entry.at for entry in ledger)
