"""The picture of a launch: what is known of its times, and that any times make a sound drawing.

On virtual time; how it looks is for people to say, who find an example in the docs.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from aiofluence import Poll, Report, Timeline, Times, Until
from aiofluence.display.timeline import Bar, Fate, draw
from aiofluence.simulator import Fault, Provisioning, Simulator

from ..harness import VIRTUAL, container_spec, session_on

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def texts(timeline: Timeline) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(timeline.svg).iter(f"{SVG}text")]


async def test_the_times_of_a_launch() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.0))
    simulator.fail(
        "POST /gpu/instances/", Fault.status(400, {"detail": "The plan is not available"}), times=1
    )
    simulator.fail_next_provisioning(1)
    async with session_on(simulator, poll=Poll(interval=1)) as fluence:
        first, second, *_ = await fluence.plans.find(kind="container")
        spec = container_spec(simulator, "exp-{i}", plan_id=first.plan_id)
        report = await fluence.deploy_all_and_wait(spec.many(3), until=Until.READY, fallback=second)
    fell_back = next(outcome for outcome in report.ready if len(outcome.times.posted) == 2)
    assert fell_back.spec.plan_id == second.plan_id
    for outcome in report.ready:
        times = outcome.times
        assert times.named is not None
        assert times.active is not None
        assert times.ready is not None
        assert 0 <= times.posted[0] < times.named < times.active < times.ready == times.last
        assert times.active - times.named == pytest.approx(100, abs=5)
        assert times.ended is None
    (failed,) = report.failed
    assert failed.times.ready is failed.times.active is None
    assert failed.times.ended == pytest.approx(100, abs=5)
    assert "2nd plan" in " ".join(texts(report.timeline()))


async def test_what_was_ready_and_then_given_up() -> None:
    simulator = Simulator(provisioning=Provisioning(median=100, sigma=0.3))
    async with session_on(simulator, poll=Poll(interval=1)) as fluence:
        async with fluence.launch(container_spec(simulator, "exp-{i}").many(8)) as launch:
            async for _ in launch:
                break
    (kept,) = launch.report.ready
    assert kept.times.ended is None
    for outcome in launch.report.terminated:
        assert outcome.times.ended is not None
        assert [phase for phase, _, _ in outcome.times.phases()][-1] == "provisioning"
    assert {"1 ready", "7 given up"} <= set(texts(launch.report.timeline())[0].partition(": ")[2].split(", "))


def bars(count: int, fate: Fate = "ready") -> list[Bar]:
    return [
        Bar(f"exp-{i}", fate, Times((0.1 * i,), 0.1 * i + 1, 100 + i % 7, 120 + i % 50)) for i in range(count)
    ]


@pytest.mark.parametrize("count", [1, 2, 40, 41, 1000, 20_000])
def test_it_is_drawn_whole_and_inside_its_frame(count: int) -> None:
    svg = draw([*bars(count), *bars(count // 10, "failed"), *bars(count // 50, "unknown")]).svg
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for node in root.iter(f"{SVG}text"):
        assert 0 <= float(node.attrib["x"]) <= width
        assert 0 <= float(node.attrib["y"]) <= height
    assert len(svg) < 120_000
    assert height < 1000
    title, facts = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert f"{count:,} ready" in str(title.text)
    assert facts is not None
    assert "slowest exp-" in str(facts.text) or count == 1
    assert root.attrib["role"] == "img"
    assert str(title.text) in root.attrib["aria-label"]


def test_unsent_and_odd_times_are_drawn() -> None:
    odd: list[Bar] = [
        Bar("never sent", "failed", Times(ended=0.0)),
        Bar("unknown", "unknown", Times()),
        Bar("late", "given up", Times((5,), 6, None, None, 9)),
    ]
    for some in ([], odd, odd[:1]):
        ElementTree.fromstring(draw(some).svg)
    assert "Nothing was launched" in Report().timeline().svg


def test_names_from_elsewhere_are_text() -> None:
    name = '</text><script>alert("x")</script>&\x00\x1b\ud800'
    timeline = draw([Bar(name, "ready", Times((0.0,), 1.0, 2.0, 3.0))])
    assert "<script" not in timeline.svg
    assert not list(ElementTree.fromstring(timeline.svg).iter(f"{SVG}script"))
    timeline.svg.encode()


def test_it_shows_and_saves_itself(tmp_path: Path) -> None:
    timeline = draw(bars(3))
    timeline.save(tmp_path / "launch.svg")
    assert (tmp_path / "launch.svg").read_text(encoding="utf-8") == timeline.svg == timeline._repr_svg_()
    assert repr(timeline) == "<Timeline, 5 kB of SVG: .save(path)>"


def test_the_pictures_in_the_docs_are_current() -> None:
    pictures = runpy.run_path(str(DOCS / "make_timeline.py"))["draw"]()
    there = {name: (DOCS / "_static" / name).read_text(encoding="utf-8") for name in pictures}
    assert there == pictures, "run `python docs/make_timeline.py`"
