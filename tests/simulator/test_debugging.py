"""Logs and events, as a cluster would print them."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from aiofluence.simulator import ClusterOptions, ContainerInstance

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


def test_logs_begin_with_the_container() -> None:
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


def test_printed_lines_follow_due_lines() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    before = logs(driver, instance_id)
    driver.sim.advance(300.0)
    driver.sim.print(instance_id, "mine", "too")
    lines = logs(driver, instance_id)
    assert len(lines) > len(before) + 10
    assert [line.split("] ")[1] for line in lines[-2:]] == ["mine", "too"]


def test_a_silent_container_prints_on_request() -> None:
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
    sim = driver.sim
    for act in (sim.print, sim.rotate, sim.restart, lambda wrong: sim.add_event(wrong, "BackOff", "x")):
        for wrong in (instance_id, machine):
            with pytest.raises(ValueError, match="not a running container"):
                act(wrong)
        with pytest.raises(LookupError):
            act("nothing")


def test_a_log_grows_rotates_and_restarts() -> None:
    driver = Driver(cluster=SILENT)
    instance_id = driver.active_container()
    sim = driver.sim
    sim.advance(200.0)

    def texts() -> list[str]:
        return [line.split("] ", 1)[1] for line in logs(driver, instance_id)]

    sim.print(instance_id, "one", "50", end="")
    assert texts() == ["one", "50"]
    sim.print(instance_id, " %")
    assert texts() == ["one", "50 %"]
    sim.rotate(instance_id)
    assert texts() == []
    sim.print(instance_id, "two")
    name = logs(driver, instance_id)[0].split("]")[0]
    sim.restart(instance_id)
    sim.print(instance_id, "three")
    assert texts() == ["three"]
    assert logs(driver, instance_id)[0].startswith(name)  # the same pod
    container = sim.get_instance(instance_id)
    assert isinstance(container, ContainerInstance)
    assert container.log.pod.lines == ["one", "50 %", "two", "three"]


def test_the_old_pod_can_linger_after_an_update() -> None:
    driver = Driver(cluster=ClusterOptions(pod_linger=30.0))
    instance_id = driver.active_container()

    def pods() -> set[str]:
        return {line.split("]")[0] for line in logs(driver, instance_id)}

    old = pods()
    driver.send("PUT", f"/gpu/instances/{instance_id}", driver.container_body())
    driver.now = 249.0
    assert len(pods()) == 2
    driver.now = 250.0
    assert len(pods()) == 1
    assert pods().isdisjoint(old)
    driver.send("DELETE", f"/gpu/instances/{instance_id}")
    count = len(logs(driver, instance_id))
    driver.now = 900.0
    assert len(logs(driver, instance_id)) == count > 0


def test_cluster_options_can_change_any_time() -> None:
    driver = Driver(cluster=SILENT)
    instance_id = driver.active_container()
    driver.sim.advance(200.0)
    driver.sim.print(instance_id, "x" * 70_000, "last")
    assert len(logs(driver, instance_id)) == 2
    driver.sim.cluster = attrs.evolve(SILENT, line_limit=65_536)
    assert logs(driver, instance_id) == []
    assert len(logs(driver, instance_id, last="1")) == 1
    driver.sim.cluster = attrs.evolve(SILENT, empty_rate=1.0)
    assert logs(driver, instance_id, last="1") == []


def test_an_ended_container_keeps_its_lines() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.send("DELETE", f"/gpu/instances/{instance_id}")
    lines = logs(driver, instance_id)
    assert lines
    driver.now = 900.0
    assert logs(driver, instance_id) == lines
    with pytest.raises(ValueError, match="not a running container"):
        driver.sim.print(instance_id, "x")


def test_events_are_sorted_by_object() -> None:
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


def test_an_added_event_is_sorted_by_object() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    before = events(driver, instance_id)
    driver.sim.add_event(instance_id, "BackOff", "Back-off restarting", type="Warning")
    driver.sim.add_event(instance_id, "NodeNotReady", "gone", kind="Node", object="gpu-node-1")
    after = events(driver, instance_id)
    assert after[0] == "[gpu-node-1]: [Normal] [NodeNotReady] [Node] gone"
    assert after[1:-1] == before
    assert re.fullmatch(rf"\[{POD}\]: \[Warning\] \[BackOff\] \[Pod\] Back-off restarting", after[-1])


def test_a_repeated_event_is_listed_or_folded() -> None:
    driver = Driver()
    instance_id = driver.active_container()
    driver.sim.advance(200.0)
    first = len(events(driver, instance_id))

    def starts() -> int:
        return sum("[Started]" in event for event in events(driver, instance_id))

    driver.sim.restart(instance_id)
    assert (starts(), len(events(driver, instance_id))) == (2, first + 3)
    driver.sim.cluster = ClusterOptions(fold_events=True)
    assert (starts(), len(events(driver, instance_id))) == (1, first + 1)  # another text for the pull
    driver.now = 104.0 + 3600.0
    assert starts() == 1  # the repeat keeps it
    driver.sim.cluster = ClusterOptions()
    assert starts() == 1
    driver.now = 200.0 + 3600.0
    driver.sim.cluster = ClusterOptions(fold_events=True)
    assert starts() == 0


def test_a_folded_event_keeps_its_first_place() -> None:
    driver = Driver(cluster=ClusterOptions(fold_events=True, event_ttl=50.0))
    instance_id = driver.active_container()
    for driver.now, reason in ((200.0, "A"), (230.0, "B"), (240.0, "A"), (285.0, "B"), (295.0, "A")):
        driver.sim.advance(driver.now)
        driver.sim.add_event(instance_id, reason, "x")
    last = [event.split("[")[3][0] for event in events(driver, instance_id)]
    assert last == ["B", "A"]  # A had been forgotten at 290, B not at 280


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


@pytest.mark.parametrize(
    "option",
    [
        {"log_interval": 0.0},
        {"last_applies": "all"},
        {"last_max": 0},
        {"pod_order": "random"},
        {"pod_linger": -1.0},
        {"ring": 0},
        {"rotate_every": 0},
        {"line_limit": 0},
        {"empty_rate": 1.1},
        {"stale_rate": -0.1},
        {"stale_by": -1.0},
    ],
    ids=str,
)
def test_options_refuse_nonsense(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        ClusterOptions(**option)
