"""Draws `_static/timeline.svg`, the picture in notebooks.md: `python docs/make_timeline.py`.

A launch on the simulator, on virtual time, with fixed seeds: equal code draws an equal picture, and a test
checks that the one that is there is current. Not part of the package.
"""

from __future__ import annotations

from pathlib import Path

from aiofluence import ContainerSpec, Poll, Session, Until
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire, run_virtual

PICTURE = Path(__file__).parent / "_static" / "timeline.svg"


async def launch() -> str:
    """Twenty containers, one of which fails, one of which finds its plan gone."""
    simulator = Simulator(seed=7, provisioning=Provisioning(median=140, sigma=0.25))
    simulator.fail_next_provisioning(1)
    gone = Fault.status(400, {"detail": "The plan is not available"})
    simulator.fail("POST /gpu/instances/", gone, times=1)
    async with Session(DEFAULT_API_KEY, wire=SimulatorWire(simulator), poll=Poll(interval=2)) as fluence:
        first, second, *_ = await fluence.plans.find(kind="container")
        spec = ContainerSpec(name="exp-{i:02}", plan_id=first.plan_id, image="ubuntu:22.04", expose=[22])
        report = await fluence.deploy_all_and_wait(spec.many(20), until=Until.READY, fallback=second)
    return report.timeline().svg


def draw() -> str:
    """The picture as it should be."""
    return run_virtual(launch())


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
