"""Crash loops: the judgement by itself, waits for one container, and batches that stop. Virtual time.

On profile LIKELY, where the simulator starts a program that exits again.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import pytest

from aiofluence import (
    ContainerUpdate,
    InstanceEndedError,
    InstanceFailedError,
    LaunchError,
    LifecycleError,
    Until,
)
from aiofluence.http.messages import Call
from aiofluence.lifecycle.crash_loop import Signs, back_off, judge
from aiofluence.models.logs import Event
from aiofluence.simulator import LIKELY, Fault, Program, Simulator
from aiofluence.tail.events import LoopAgain

from ..harness import VIRTUAL, container_spec, now, session_on

STAYS = "docker.io/fluencelabs/ubuntu-ssh-root:24.04"
EXITS = "docker.io/library/ubuntu:22.04"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def events(*texts: str, pod: str = "service-1-b4fcd99f7-f5xr5") -> list[Event]:
    return [Event.parse(f"[{pod}]: {text}") for text in texts]


STARTED = "[Normal] [Started] [Pod] Started container service-1"
PULLED = '[Normal] [Pulled] [Pod] Container image "x:1" already present on machine'
PULLING = '[Normal] [Pulling] [Pod] Pulling image "x:1"'
BACK_OFF = "[Warning] [BackOff] [Pod] Back-off restarting failed container service-1 in pod service-1-b4fcd"
NO_IMAGE = '[Normal] [BackOff] [Pod] Back-off pulling image "x:1"'
STOPPING = "[Normal] [Killing] [Pod] Stopping container service-1"
PROBE = "[Normal] [Killing] [Pod] Container service-1 failed liveness probe, will be restarted"


class Story:
    """Looks and events of one container, second by second."""

    def __init__(self) -> None:
        self.signs = Signs()

    def down(self, *times: float) -> Story:
        for time in times:
            self.signs.note_poll(time, is_started=False)
        return self

    def up(self, *times: float) -> Story:
        for time in times:
            self.signs.note_poll(time, is_started=True)
        return self

    def told(self, time: float, *texts: str) -> Story:
        self.signs.note_request(time)
        self.signs.note_events(events(*texts), time)
        return self


# The judgement


def test_a_slow_start_is_no_loop() -> None:
    story = Story()
    for time in range(0, 1800, 10):
        story.down(float(time))
        if story.signs.wants_events(float(time)):
            story.told(float(time), PULLING)
        assert judge(story.signs, float(time)) is None


def test_a_slow_start_costs_few_requests() -> None:
    story, requests = Story(), 0
    for time in range(0, 480, 10):
        story.down(float(time))
        if story.signs.wants_events(float(time)):
            story.told(float(time), PULLING)
            requests += 1
    assert requests == 5


def test_a_start_within_seconds_costs_no_request() -> None:
    signs = Story().down(0.0, 5.0, 10.0).signs
    assert not signs.wants_events(10.0)
    assert not Story().down(0.0, 5.0).up(14.0).signs.wants_events(14.0)


@pytest.mark.parametrize(
    "texts", [(STARTED, PULLED, STARTED), (STARTED, BACK_OFF), (STARTED, PROBE, STARTED)]
)
def test_a_restart_is_no_loop(texts: tuple[str, ...]) -> None:
    story = Story().down(0.0, 10.0, 20.0).told(20.0, *texts)
    assert judge(story.signs, 20.0) is None
    story.up(30.0)
    assert judge(story.signs, 30.0) is None
    story.up(40.0)
    assert story.signs.is_steady(40.0)
    story.told(70.0, *texts)
    assert judge(story.signs, 70.0) is None


def test_two_back_offs_without_a_run_are_a_loop() -> None:
    story = Story().down(0.0, 16.0).told(16.0, STARTED, BACK_OFF).down(45.0)
    assert judge(story.signs, 45.0) is None
    story.told(45.0, STARTED, BACK_OFF)
    assert judge(story.signs, 45.0) == "exits"


def test_a_short_run_does_not_hide_a_loop() -> None:
    story = Story().down(0.0, 16.0).told(16.0, BACK_OFF).up(33.0).down(34.0, 45.0).told(45.0, BACK_OFF)
    assert judge(story.signs, 45.0) == "exits"


def test_a_run_that_lasts_clears_the_doubt() -> None:
    story = Story().down(0.0, 16.0).told(16.0, BACK_OFF).up(33.0)
    assert not story.signs.is_steady(33.0)
    story.up(44.0)
    assert story.signs.is_steady(44.0)
    story.down(60.0).told(60.0, BACK_OFF)
    assert judge(story.signs, 60.0) is None


def test_a_missing_image_gets_more_time() -> None:
    story = Story().down(0.0).told(16.0, NO_IMAGE).told(45.0, NO_IMAGE)
    assert judge(story.signs, 45.0) is None
    assert judge(story.signs, 61.0) == "no image"
    assert back_off(events(NO_IMAGE, PULLED)) is None


def test_many_ended_runs_are_a_loop() -> None:
    story = Story()
    for time in (10.0, 30.0, 50.0):
        story.up(time).down(time + 12)
    assert judge(story.signs, 62.0) is None
    story.told(62.0, BACK_OFF)
    assert judge(story.signs, 63.0) == "exits"
    story = Story()
    for time in (10.0, 30.0, 50.0, 70.0, 90.0):
        story.up(time).down(time + 12)
    assert judge(story.signs, 102.0) == "exits"


def test_the_pod_before_an_update_does_not_count() -> None:
    old = events(BACK_OFF, STOPPING)
    assert back_off(old) is None
    assert back_off([*old, *events(BACK_OFF, pod="service-1-b4fcd99f7-22222")]) == "exits"
    assert back_off(events(BACK_OFF, PROBE)) == "exits"


def test_three_loops_prove_the_fourth() -> None:
    signs = Story().down(0.0, 50.0).signs
    assert judge(signs, 50.0, siblings=3) is None
    assert judge(signs, 61.0, siblings=2) is None
    assert judge(signs, 61.0, siblings=3) == "exits"
    assert judge(Story().down(0.0).up(20.0).signs, 61.0, siblings=3) is None


# One container


class Counted:
    """Counts the requests of a session, by their purpose."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()

    def __call__(self, call: Call, reply: object) -> None:
        last = str(call).partition("?")[0].rpartition("/")[2]
        self.requests[last if last in ("events", "logs") else str(call).partition(" ")[0]] += 1


def simulator_with(**programs: Program) -> Simulator:
    """A simulator on LIKELY; each name is an image with the tag 1."""
    simulator = Simulator(profile=LIKELY)
    simulator.programs.update({f"{name}:1": does for name, does in programs.items()})
    return simulator


BOOM = Program(seconds=0.5, code=1, lines=("CUDA error: no kernel image",))


@pytest.mark.parametrize("seed", range(5))
async def test_ready_finds_a_loop_within_90_seconds(seed: int) -> None:
    simulator = Simulator(profile=LIKELY, seed=seed)
    simulator.programs["boom:1"] = BOOM
    counted = Counted()
    async with session_on(simulator, on_reply=counted) as fluence:
        with pytest.raises(InstanceFailedError) as raised:
            await fluence.deploy_and_wait(container_spec(simulator, image="boom:1"), until=Until.READY)
        (instance,) = simulator.instances()
        assert now() - instance.active_at <= 90
        error = raised.value
        assert error.is_billing
        assert [event.reason for event in error.events].count("BackOff") == 1
        assert [line.text for line in error.logs] == ["CUDA error: no kernel image"]
        assert "crash loop of boom:1" in str(error)
        assert "billed until it is ended; the session is ending it" in str(error)
        assert error.estimated_spend is not None
        assert error.estimated_spend > 0
        assert counted.requests["events"] <= 2
        assert counted.requests["logs"] == 1
    assert simulator.live() == []


async def test_ready_finds_a_missing_image() -> None:
    simulator = simulator_with(gone=Program(pullable=False))
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceFailedError, match="image gone:1 cannot be pulled") as raised:
            await fluence.deploy_and_wait(container_spec(simulator, image="gone:1"), until=Until.READY)
        (instance,) = simulator.instances()
        assert now() - instance.active_at <= 90
        assert raised.value.is_billing
    assert simulator.live() == []


async def test_active_requests_no_events() -> None:
    simulator = simulator_with(boom=BOOM)
    counted = Counted()
    async with session_on(simulator, on_reply=counted) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator, image="boom:1"))
        assert set(counted.requests) == {"POST", "GET"}
        await fluence.terminate_and_wait(container)
    assert simulator.live() == []


async def test_a_good_start_requests_no_events() -> None:
    simulator = Simulator(profile=LIKELY)
    counted = Counted()
    async with session_on(simulator, on_reply=counted) as fluence:
        async with fluence.running(container_spec(simulator, image=STAYS), until=Until.READY):
            assert set(counted.requests) == {"POST", "GET"}


async def test_a_slow_start_is_waited_for() -> None:
    simulator = Simulator(profile=LIKELY.replace(provisioning={"start_delay": 300.0}))
    counted = Counted()
    async with session_on(simulator, on_reply=counted) as fluence:
        async with fluence.running(container_spec(simulator, image=STAYS), until=Until.READY):
            pass
    assert counted.requests["events"] <= 4


async def test_a_kept_container_that_loops_bills() -> None:
    simulator = simulator_with(boom=BOOM)
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, image="boom:1")
        with pytest.raises(InstanceFailedError) as raised:
            await fluence.deploy_and_wait(spec, until=Until.READY, on_failure="keep")
        assert "the session is ending it" not in str(raised.value)
        assert fluence.custody.ending == ()
        assert len(simulator.live()) == 1
        await raised.value.terminate()
    assert simulator.live() == []


async def test_the_error_of_a_wait_can_end_the_loop() -> None:
    simulator = simulator_with(boom=BOOM)
    async with session_on(simulator) as fluence:
        container = await fluence.deploy_and_wait(container_spec(simulator, image="boom:1"))
        with pytest.raises(InstanceFailedError) as raised:
            await fluence.wait(container, until=Until.REACHABLE)
        assert len(simulator.live()) == 1
        await raised.value.terminate()
    assert simulator.live() == []


@pytest.mark.parametrize(
    ("does", "what"),
    [(Program(seconds=0.5), "crash loop of boom:1"), (Program(pullable=False), "boom:1 cannot be pulled")],
)
async def test_an_update_finds_a_loop(does: Program, what: str) -> None:
    simulator = simulator_with(boom=does)
    async with session_on(simulator) as fluence:
        async with fluence.running(container_spec(simulator, image=STAYS), until=Until.READY) as container:
            began = now()
            update = ContainerUpdate.from_container(container, image="boom:1")
            with pytest.raises(InstanceFailedError, match=what):
                await fluence.update_and_wait(container, update)
            assert now() - began <= 120
    assert simulator.live() == []


async def test_without_events_nothing_is_proven() -> None:
    simulator = simulator_with(gone=Program(pullable=False))
    simulator.fail("GET /gpu/instances/{id}/events", Fault.status(404), times=None)
    async with session_on(simulator) as fluence:
        with pytest.raises(InstanceEndedError):
            await fluence.deploy_and_wait(container_spec(simulator, image="gone:1"), until=Until.READY)
    assert simulator.live() == []


# Many containers


def rich(**programs: Program) -> Simulator:
    simulator = simulator_with(**programs)
    simulator.set_balance(10_000)
    return simulator


async def test_a_batch_that_loops_costs_ten_instances() -> None:
    simulator = rich(boom=BOOM)
    counted = Counted()
    async with session_on(simulator, on_reply=counted) as fluence:
        spec = container_spec(simulator, "web-{i}", image="boom:1")
        report = await fluence.deploy_all_and_wait(spec.many(100), until=Until.READY)
        assert now() < 300
    assert simulator.live() == []
    assert counted.requests["POST"] == len(simulator.instances()) == 10
    assert counted.requests["events"] <= 9
    assert counted.requests["logs"] <= 3
    assert len(report.terminated) == 10
    assert len(report.failed) == 90
    for outcome in report.terminated:
        assert isinstance(outcome.error, InstanceFailedError)
        assert outcome.error.is_billing
        assert any(event.reason == "BackOff" for event in outcome.error.events)
        assert [line.text for line in outcome.error.logs] == ["CUDA error: no kernel image"]
    looping = {outcome.spec.name for outcome in report.terminated}
    for outcome in report.failed:
        assert type(outcome.error) is LifecycleError
        text = str(outcome.error)
        assert text.startswith("not deployed: boom:1 does not stay")
        assert set(re.findall(r"web-\d+", text)) <= looping
        assert len(re.findall(r"web-\d+", text)) == 3


async def test_containers_of_another_image_go_on() -> None:
    simulator = rich(boom=BOOM)
    async with session_on(simulator) as fluence:
        bad = container_spec(simulator, "bad-{i}", image="boom:1").many(30)
        good = container_spec(simulator, "good-{i}", image=STAYS).many(30)
        mixed = [spec for pair in zip(bad, good, strict=True) for spec in pair]
        report = await fluence.deploy_all_and_wait(mixed, until=Until.READY)
        assert {outcome.spec.name for outcome in report.ready} == {spec.name for spec in good}
        assert len(simulator.instances()) == 40
        await asyncio.gather(*map(fluence.terminate_and_wait, report.instances))
    assert simulator.live() == []


async def test_a_good_start_releases_the_batch() -> None:
    simulator = rich()
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image=STAYS)
        async with fluence.launch(spec.many(40), until=Until.READY, on_failure="keep") as launch:
            first = await anext(aiter(launch))
            assert len(simulator.instances()) <= 10
            report = await launch.complete()
        assert first.times.ready is not None
        posted = sorted(outcome.times.posted[0] for outcome in report.outcomes)
        assert posted[9] < 5
        assert first.times.ready <= posted[10] <= posted[-1] <= first.times.ready + 10
        assert len(report.ready) == 40


async def test_a_batch_until_active_holds_nothing_back() -> None:
    simulator = rich(boom=BOOM)
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image="boom:1")
        report = await fluence.deploy_all_and_wait(spec.many(40))
        assert max(outcome.times.posted[0] for outcome in report.outcomes) < 10
        assert len(report.ready) == 40
        await asyncio.gather(*map(fluence.terminate_and_wait, report.instances))
    assert simulator.live() == []


async def test_an_unreachable_quorum_ends_the_launch() -> None:
    simulator = rich(boom=BOOM)
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image="boom:1")
        with pytest.raises(LaunchError) as raised:
            await fluence.deploy_all_and_wait(spec.many(30), until=Until.READY, min_ready=25)
        assert len(raised.value.report.outcomes) == 30
    assert simulator.live() == []
    assert len(simulator.instances()) == 10


async def test_failed_first_containers_block_nothing() -> None:
    simulator = rich()
    simulator.fail_next_provisioning(15)
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image=STAYS)
        report = await fluence.deploy_all_and_wait(spec.many(30), until=Until.READY)
        assert len(report.ready) == 15
        assert len(report.failed) == 15
        await asyncio.gather(*map(fluence.terminate_and_wait, report.instances))
    assert simulator.live() == []


async def test_a_cancelled_launch_leaves_nothing() -> None:
    simulator = rich()
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image=STAYS)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await fluence.deploy_all_and_wait(spec.many(30), until=Until.READY)
    assert simulator.live() == []
    assert len(simulator.instances()) == 10


async def test_a_timeout_names_the_waiting_jobs() -> None:
    simulator = rich()
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, "web-{i}", image=STAYS)
        report = await fluence.deploy_all_and_wait(spec.many(30), until=Until.READY, timeout=30)
        assert len(report.terminated) == 10
        assert len(report.failed) == 20
    assert simulator.live() == []


# Tails of events


def test_a_folded_back_off_is_delivered_once() -> None:
    again, listed = LoopAgain(), events(STARTED, BACK_OFF)
    again.took(listed)
    assert again.looked(listed, is_started=False) == again.looked(listed, is_started=False) == []
    for _ in range(2):
        assert again.looked(listed, is_started=True) == []
        assert again.looked(listed, is_started=False) == []
        assert again.looked(listed, is_started=False) == [listed[1]]
        assert again.looked(listed, is_started=False) == []


def test_a_restart_after_a_loop_is_no_loop() -> None:
    again, listed = LoopAgain(), events(STARTED, BACK_OFF)
    again.took(listed)
    for _ in range(3):
        assert again.looked(listed, is_started=True) == again.looked(listed, is_started=False) == []
    assert again.looked(events(STARTED), is_started=False) == []


async def test_a_tail_reports_each_new_loop() -> None:
    simulator = simulator_with(late=Program(seconds=200.0, code=1))
    async with session_on(simulator) as fluence:
        spec = container_spec(simulator, image="late:1")
        container = await fluence.deploy_and_wait(spec, until=Until.READY)

        async def follow() -> list[tuple[float, Event]]:
            return [(now(), event) async for event in fluence.tail_events(container)]

        following = asyncio.create_task(follow())
        await asyncio.sleep(3000)
        await fluence.terminate_and_wait(container)
        told = await following
    loops = [(when, event) for when, event in told if event.reason == "BackOff"]
    assert len({event.raw for _, event in loops}) == 1  # the cluster lists it once
    assert len(loops) >= 2
    assert loops[0][0] < 800
    assert loops[1][0] - loops[0][0] > 300
