"""Logs and events, as a cluster would print them."""

from __future__ import annotations

import re

import pytest

from aiofluence.simulator import ClusterOptions

from .driver import Driver

POD = r"service-1-[a-z0-9]{9}-[a-z0-9]{5}"
SILENT = ClusterOptions(log_interval=None)


def logs(driver: Driver, instance_id: str, **query: str) -> list[str]:
    found = driver.get(f"/gpu/instances/{instance_id}/logs", **query)
    assert isinstance(found, list)
    return found


def events(driver: Driver, instance_id: str, **query: str) -> list[str]:
    found = driver.get(f"/gpu/instances/{instance_id}/events", **query)
    assert isinstance(found, list)
    return found


def test_logs_begin_with_the_container_and_only_grow() -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.container_body())
    seen: list[str] = []
    for driver.now in (0.0, 100.0, 103.9, 104.0, 110.0, 500.0, 501.0):
        lines = logs(driver, instance_id)
        assert lines[: len(seen)] == seen
        assert bool(lines) == (driver.now >= 104.0)
        seen = lines
    assert 150 < len(seen) < 250  # a line in two seconds
    assert all(re.fullmatch(rf"\[{POD}\] \S.*", line) for line in seen)


def test_last_gives_the_newest_lines() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    everything = logs(driver, instance_id)
    assert logs(driver, instance_id, last="3") == everything[-3:]
    assert logs(driver, instance_id, last="100000") == everything


def test_the_consoles_format_of_lines() -> None:
    driver = Driver(cluster=ClusterOptions(console_format=True))
    assert re.fullmatch(rf"\[{POD}\]: \S.*", logs(driver, driver.active_container())[0])


def test_lines_printed_by_hand_follow_what_was_due() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    before = logs(driver, instance_id)
    driver.sim.advance(300.0)
    driver.sim.print(instance_id, "mine", "too")
    lines = logs(driver, instance_id)
    assert len(lines) > len(before) + 10
    assert [line.split("] ")[1] for line in lines[-2:]] == ["mine", "too"]


def test_a_silent_container_prints_what_the_test_says_and_nothing_else() -> None:
    driver = Driver(cluster=SILENT)
    instance_id = driver.active_container()
    assert logs(driver, instance_id) == []
    driver.sim.print(instance_id, "one", "one")
    (first, second) = logs(driver, instance_id)
    assert first == second


def test_only_running_containers_print() -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.container_body())
    machine = driver.deploy(driver.vm_body(), "/gpu/instances/vms")
    for wrong in (instance_id, machine):
        with pytest.raises(ValueError, match="not a running container"):
            driver.sim.print(wrong, "x")
    with pytest.raises(LookupError):
        driver.sim.print("nothing", "x")


def test_an_ended_container_prints_no_more_and_keeps_its_lines() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.send("DELETE", f"/gpu/instances/{instance_id}")
    lines = logs(driver, instance_id)
    assert lines
    driver.now = 900.0
    assert logs(driver, instance_id) == lines
    with pytest.raises(ValueError, match="not a running container"):
        driver.sim.print(instance_id, "x")


def test_events_tell_the_start_and_are_sorted_by_object() -> None:
    driver = Driver()
    instance_id = driver.deploy(driver.container_body())
    assert events(driver, instance_id) == []
    driver.now = 200.0
    found = events(driver, instance_id)
    shape = rf"\[(service-1|service-1-[a-z0-9]{{9}}|{POD})\]: \[Normal\] \[(\w+)\] \[(\w+)\] .+"
    parsed = [re.fullmatch(shape, event) for event in found]
    assert [match and (match[2], match[3]) for match in parsed] == [
        ("ScalingReplicaSet", "Deployment"),
        ("SuccessfulCreate", "ReplicaSet"),
        ("Scheduled", "Pod"),
        ("Pulling", "Pod"),
        ("Pulled", "Pod"),
        ("Created", "Pod"),
        ("Started", "Pod"),
    ]
    objects = [event.split("]")[0] for event in found]
    assert objects == sorted(objects)
    assert events(driver, instance_id, last="2") == found[-2:]


def test_events_of_an_update_appear_in_the_middle() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    before = events(driver, instance_id)
    body = driver.container_body()
    driver.send("PUT", f"/gpu/instances/{instance_id}", body)
    driver.now = 300.0
    after = events(driver, instance_id)
    assert set(before) < set(after)
    assert after[: len(before)] != before


def test_the_guides_format_of_events() -> None:
    driver = Driver(cluster=ClusterOptions(event_kind=False))
    first = events(driver, driver.active_container())[0]
    assert re.match(r"\[service-1\]: \[Normal\] \[ScalingReplicaSet\] Scaled up", first)


def test_events_age_out() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    assert events(driver, instance_id)
    driver.now = 104.0 + 3600.0
    assert events(driver, instance_id) == []


def test_a_failed_container_tells_why() -> None:
    driver = Driver(balance=10_000)
    reasons = set()
    for index in range(20):
        driver.sim.fail_next_provisioning()
        instance_id = driver.deploy(driver.container_body(f"job-{index}"))
        driver.now += 100.0
        found = events(driver, instance_id)
        assert any("[Warning] [BackOff]" in e or "[Warning] [Failed]" in e for e in found)
        crashed = any("restarting failed container" in event for event in found)
        assert bool(logs(driver, instance_id)) == crashed
        reasons.add(crashed)
    assert reasons == {True, False}


def test_options_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="log_interval"):
        ClusterOptions(log_interval=0.0)
