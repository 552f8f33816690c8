"""Containers under the profile `likely`: what exits is started again, what never runs is given up."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import attrs
import pytest

from aiofluence.simulator import LIKELY, ClusterOptions, Profile, Program, Simulator
from aiofluence.simulator.programs import program

from .driver import EXACT, Driver, text

UBUNTU_SSH = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
EXACTLY = LIKELY.replace(provisioning=EXACT)


def likely(**changes: Any) -> Driver:
    return Driver(Simulator(profile=EXACTLY.replace(**changes)))


def start(driver: Driver, image: str = UBUNTU_SSH, **settings: Any) -> str:
    """A container that has become ACTIVE, at second 105; its path."""
    path = f"/gpu/instances/{driver.deploy(driver.container_body(image=image, **settings))}"
    driver.now = 105.0
    return path


def states(driver: Driver, path: str, until: float, step: float = 5.0) -> Iterator[tuple[str, str]]:
    while driver.now < until:
        driver.now += step
        seen = driver.get(path)
        yield seen["instance_status"], seen["container_status"]


@pytest.mark.parametrize(
    ("image", "command", "seconds"),
    [
        (UBUNTU_SSH, None, None),
        ("docker.io/fluencelabs/debian-ssh-root:11", None, None),
        ("nginx", None, None),
        ("redis:7", None, None),
        ("quay.io/jupyter/pytorch-notebook:cuda12-latest", None, None),
        ("tensorflow/tensorflow:2.16-gpu-jupyter", None, None),
        ("docker.io/vllm/vllm-openai:v0.8.4", None, None),
        ("ubuntu:22.04", None, 0.5),
        ("docker.io/library/debian", None, 0.5),
        ("alpine", None, 0.5),
        ("python:3.12-slim", None, 0.5),
        ("busybox", None, 0.5),
        ("nvidia/cuda:12.4.1-devel-ubuntu22.04", None, 0.5),
        ("localhost:5000/ubuntu@sha256:0", None, 0.5),
        ("ubuntu:22.04", "sleep infinity", None),
        ("ubuntu:22.04", "sleep inf", None),
        ("ubuntu:22.04", "exec sleep infinity", None),
        ("ubuntu:22.04", "sleep 1.5m 30", 120.0),
        ("ubuntu:22.04", "tail -f /dev/null", None),
        ("ubuntu:22.04", "tail -n 3 /etc/passwd", 0.5),
        ("ubuntu:22.04", "python3 serve.py --port 8000", None),
        ("ubuntu:22.04", "python -m http.server", None),
        ("ubuntu:22.04", "python -c 'print(1)'", 0.5),
        ("ubuntu:22.04", "nvidia-smi", 0.5),
        ("ubuntu:22.04", "/usr/sbin/sshd -D", None),
        ("ubuntu:22.04", "/usr/sbin/sshd", 0.5),
        ("ubuntu:22.04", "bash", 0.5),
        ("ubuntu:22.04", "bash -c 'apt-get update && service ssh start; sleep infinity'", None),
        ("ubuntu:22.04", "sh -c 'sleep 5; echo done'", 5.0),
        ("ubuntu:22.04", "sleep infinity & sleep 2", 2.0),
        ("ubuntu:22.04", "vllm serve model &", 0.5),
        ("ubuntu:22.04", "A=1 B='2 3' ./train", None),
        ("nginx", "nginx -g 'daemon off;'", None),
        ("nginx", "echo 'unclosed", 0.5),
    ],
)
def test_which_programs_stay(image: str, command: str | None, seconds: float | None) -> None:
    assert program(image, command, {}, images_exit=True).seconds == seconds
    assert program(image, command, {}, images_exit=False).seconds is None


@pytest.mark.parametrize(
    ("command", "code"), [("exit 3", 3), ("false", 1), ("sh -c 'echo; exit 7; echo'", 7)]
)
def test_exit_codes_of_programs(command: str, code: int) -> None:
    assert program("alpine", command, {}, images_exit=True).code == code


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("echo one; echo 'two three'; sleep 9", "one\ntwo three\n"),
        ("seq 3; seq 5 6; exit 1; echo no", "1\n2\n3\n5\n6\n"),
        ("printf 'bad \\377 byte\\n'; printf %03d%s 7 x", "bad \ufffd byte\n007x"),
        ("echo one > file", None),
        ("echo one; python3 train.py", None),
        ("sleep 5", None),
    ],
)
def test_commands_that_print(command: str, output: str | None) -> None:
    assert program("ubuntu:22.04", command, {}, images_exit=True).output == output


def test_a_scripted_image_overrides_the_table() -> None:
    scripted = {"docker.io/library/ubuntu:22.04": Program(3.0)}
    assert program("ubuntu:22.04", "sleep infinity", scripted, images_exit=True) == Program(3.0)
    assert program("ubuntu:22.04", None, scripted, images_exit=False) == Program(3.0)
    assert program("ubuntu:24.04", None, scripted, images_exit=True).seconds == 0.5
    with pytest.raises(ValueError, match="seconds"):
        Program(-1.0)


def test_a_shell_loops_until_its_lease_closes() -> None:
    driver = likely()
    path = start(driver, "ubuntu:22.04")
    seen = list(states(driver, path, 105.0 + 360.0))
    assert {status for status, _ in seen} == {"ACTIVE"}
    assert sum(container == "NOT_STARTED" for _, container in seen) > 0.9 * len(seen)
    events = driver.get(f"{path}/events")
    assert sum("[BackOff]" in event for event in events) == 1  # repeats are folded
    assert any("Back-off restarting failed container" in event for event in events)
    live = driver.get(path)
    assert live["network"]["forwarded_ports"]  # as for any other
    assert driver.sim.spent() > 0
    over = list(states(driver, path, 105.0 + 800.0))
    assert over[-1] == ("ENDED", "NOT_STARTED")
    (instance,) = driver.sim.instances()
    assert 41 * 8 < instance.updated_at - 104.5 < 41 * 15
    assert driver.sim.reserved() == 0
    assert driver.sim.spent() == instance.offer.hourly
    assert driver.get(f"{path}/logs") == []


def test_restarts_slow_down_and_begin_new_logs() -> None:
    driver = likely(lease_checks=None, cluster={"fold_events": False})
    driver.sim.programs["job:1"] = Program(1.0, 1, ("loading", "no such file"))
    path = start(driver, "job:1")
    pods = set()
    for driver.now in (104.5, 120.0, 700.0):
        lines = driver.get(f"{path}/logs")
        assert [line.split(" ", 1)[1] for line in lines] == ["loading", "no such file"]
        pods |= {line.split(" ", 1)[0] for line in lines}
    assert len(pods) == 1
    driver.now = 1500.0
    driver.sim.advance(driver.now)
    container: Any = driver.sim.get_instance(path.rpartition("/")[2])
    starts = sorted(event.at for event in container.events if event.reason == "Started")
    waits = [round(later - earlier - 1.0) for earlier, later in pairwise(starts)]
    assert waits[:8] == [1, 10, 20, 40, 80, 160, 300, 300]
    assert sum("[BackOff]" in event for event in driver.get(f"{path}/events")) == len(waits)
    assert driver.get(path)["instance_status"] == "ACTIVE"
    assert container.log.pod.lines.count("loading") == len(starts)


def test_a_program_of_rare_exits_keeps_its_lease() -> None:
    driver = likely()
    driver.sim.programs["job:1"] = Program(60.0)
    path = start(driver, "job:1")
    assert {status for status, _ in states(driver, path, 3600.0, step=60.0)} == {"ACTIVE"}


def test_a_caused_exit_is_followed_by_a_restart() -> None:
    driver = likely()
    path = start(driver)
    instance_id = path.rpartition("/")[2]
    driver.now = 200.0
    driver.sim.advance(driver.now)
    before = driver.get(f"{path}/logs")
    driver.sim.exit(instance_id, 1)
    assert driver.get(path)["container_status"] == "NOT_STARTED"
    assert driver.get(f"{path}/logs") == before  # of the run that is over
    driver.now = 202.0
    assert driver.get(path)["container_status"] == "STARTED"
    after = driver.get(f"{path}/logs")
    assert 0 < len(after) < len(before)
    assert before[0].split("]")[0] == after[0].split("]")[0]
    driver.now = 2000.0
    assert driver.get(path)["instance_status"] == "ACTIVE"


@pytest.mark.parametrize("profile", ["kind", "likely"])
def test_an_image_that_cannot_be_pulled(profile: Any) -> None:
    driver = Driver(Simulator(profile=Profile.of(profile).replace(provisioning=EXACT)))
    driver.sim.programs["nobody/nothing:1"] = Program(pullable=False)
    path = start(driver, "nobody/nothing:1")
    seen = driver.get(path)
    assert seen["container_status"] == "NOT_STARTED"
    assert any("ErrImagePull" in event for event in driver.get(f"{path}/events"))
    if profile == "kind":
        assert seen["instance_status"] == "FAILED"
        assert driver.sim.spent() == 0
        return
    assert seen["instance_status"] == "ACTIVE"
    assert driver.send("GET", f"{path}/logs").status == 400
    driver.now = 900.0
    assert driver.get(path)["instance_status"] == "ENDED"
    assert driver.sim.spent() > 0


def test_a_bad_image_does_not_fail_provisioning() -> None:
    driver = likely()
    driver.sim.fail_next_provisioning()
    path = start(driver, "ubuntu:22.04")
    assert driver.get(path)["instance_status"] == "FAILED"
    assert any("[FailedScheduling]" in event for event in driver.get(f"{path}/events"))


# Logs


def test_logs_before_the_pod_and_after_the_end() -> None:
    driver = likely()
    path = f"/gpu/instances/{driver.deploy(driver.container_body(image=UBUNTU_SSH))}"
    assert driver.get(f"{path}/logs") == []  # there is no pod yet
    for driver.now in (60.0, 103.0):
        reply = driver.send("GET", f"{path}/logs")
        assert reply.status == 400
        assert "ContainerCreating" in text(reply)["detail"]
    driver.now = 200.0
    assert driver.get(f"{path}/logs")
    assert driver.send("DELETE", path).status == 204
    assert driver.get(f"{path}/logs") == []
    driver.sim.profile = driver.sim.profile.replace(logs_after_end="error")
    assert driver.send("GET", f"{path}/logs").status == 400
    driver.sim.profile = driver.sim.profile.replace(logs_after_end="kept")
    assert driver.get(f"{path}/logs")


def test_a_line_over_64_kib_ends_the_answer() -> None:
    driver = likely()
    driver.sim.programs["job:1"] = Program(3600.0, lines=("one", "x" * 65_537, "three"))
    path = start(driver, "job:1")
    assert [line.split(" ", 1)[1] for line in driver.get(f"{path}/logs")] == ["one"]


# Updates


def change(**settings: Any) -> dict[str, Any]:
    return {"name": "job", "container_settings": {"image": UBUNTU_SSH, **settings}}


def test_an_update_takes_the_old_pod_down_first() -> None:
    driver = likely()
    path = start(driver)
    driver.now = 200.0
    before = driver.get(path)
    old = driver.get(f"{path}/logs")[0].split("]")[0]
    assert driver.send("PUT", path, change(startup_command="sleep infinity")).status == 204
    driver.now = 219.0
    between = driver.get(path)
    assert between["container_status"] == "NOT_STARTED"
    assert between["container_info"] == before["container_info"]
    assert between["network"] == before["network"]
    assert driver.send("GET", f"{path}/logs").status == 400
    assert driver.send("PUT", path, change()).status == 400
    driver.now = 220.0
    after = driver.get(path)
    assert after["container_status"] == "STARTED"
    assert after["container_info"]["startup_command"] == "sleep infinity"
    assert after["network"] == before["network"]
    assert driver.get(f"{path}/logs")[0].split("]")[0] != old


def test_an_update_can_break_and_heal() -> None:
    driver = likely()
    path = start(driver)
    driver.now = 200.0
    driver.send("PUT", path, change(image="ubuntu:22.04"))
    list(states(driver, path, 400.0))
    assert driver.get(path)["container_status"] == "NOT_STARTED"
    driver.send("PUT", path, change())
    seen = list(states(driver, path, 2000.0, step=20.0))
    assert {status for status, _ in seen} == {"ACTIVE"}
    assert {container for _, container in seen[1:]} == {"STARTED"}


def test_under_kind_an_exit_ends_the_instance() -> None:
    driver = Driver(profile="kind")
    driver.sim.programs["job:1"] = Program(10.0, 1)
    path = start(driver, "job:1")
    driver.now = 113.0
    assert driver.get(path)["instance_status"] == "ACTIVE"
    driver.now = 114.0
    assert driver.get(path)["instance_status"] == "ENDED"
    assert any("exited with code 1" in event for event in driver.get(f"{path}/events"))
    path = start_at(driver, "job:2")
    driver.send("PUT", path, change(image="job:1"))
    driver.now += 40.0
    assert driver.get(path)["instance_status"] == "ENDED"


def start_at(driver: Driver, image: str) -> str:
    path = f"/gpu/instances/{driver.deploy(driver.container_body('second', image=image))}"
    driver.now += 150.0
    return path


def test_each_habit_has_its_own_switch() -> None:
    stays = likely(images_exit=False)
    path = start(stays, "ubuntu:22.04")
    stays.now = 1000.0
    assert stays.get(path)["container_status"] == "STARTED"
    ends = likely(restarts=False)
    path = start(ends, "ubuntu:22.04")
    assert ends.get(path)["instance_status"] == "ENDED"
    forever = likely(lease_checks=None)
    path = start(forever, "ubuntu:22.04")
    forever.now = 5000.0
    assert forever.get(path)["instance_status"] == "ACTIVE"
    soon = likely(lease_checks=1)
    path = start(soon, "ubuntu:22.04")
    soon.now = 130.0
    assert soon.get(path)["instance_status"] == "ENDED"
    at_once = likely(update_downtime=False)
    path = start(at_once)
    at_once.send("PUT", path, change())
    at_once.now += 10.0
    assert at_once.get(path)["container_status"] == "STARTED"
    early = likely(logs_while_creating="empty")
    path = f"/gpu/instances/{early.deploy(early.container_body(image=UBUNTU_SSH))}"
    early.now = 60.0
    assert early.get(f"{path}/logs") == []
    refused = likely(reserved_variable="refused")
    body = refused.container_body(environment=[{"name": "SSH_PUBKEY", "value": "k"}]) | {"ssh_key": "k"}
    assert refused.send("POST", "/gpu/instances/", body).status == 400
    assert not refused.sim.instances()


def test_a_crash_loop_is_billed_as_usual() -> None:
    driver = likely(lease_checks=None)
    start(driver, "ubuntu:22.04")
    driver.now = 3 * 3600.0
    driver.sim.advance(driver.now)
    (instance,) = driver.sim.live()
    assert instance.bill.spent == 4 * instance.offer.hourly
    assert driver.sim.balance == Decimal(1000) - driver.sim.spent() - driver.sim.reserved()


def test_options_replace_parts_of_a_profile() -> None:
    sim = Simulator(profile="likely", provisioning=EXACT, cluster=ClusterOptions(ring=3))
    assert sim.profile == attrs.evolve(LIKELY, provisioning=EXACT, cluster=ClusterOptions(ring=3))
    sim.provisioning = LIKELY.provisioning
    sim.reset()
    assert sim.provisioning == EXACT
