"""Draw the timelines of the docs: `python docs/make_timeline.py` writes them into `_static`.

The script launches on the simulator, on virtual time, so equal code draws equal pictures. A test checks
that the committed pictures are current. Not part of the package.
"""

from __future__ import annotations

from pathlib import Path

from aiofluence import ContainerSpec, Poll, Session, Until
from aiofluence.simulator import DEFAULT_API_KEY, Fault, Provisioning, Simulator, SimulatorWire, run_virtual

FOLDER = Path(__file__).parent / "_static"


async def launch() -> str:
    """Launch twenty containers, of which one fails and one finds its plan sold out."""
    simulator = Simulator(seed=7, provisioning=Provisioning(median=140, sigma=0.25))
    simulator.fail_next_provisioning(1)
    gone = Fault.status(400, {"detail": "The plan is not available"})
    simulator.fail("POST /gpu/instances/", gone, times=1)
    async with Session(DEFAULT_API_KEY, wire=SimulatorWire(simulator), poll=Poll(interval=2)) as fluence:
        first, second, *_ = await fluence.plans.find(kind="container")
        spec = ContainerSpec(
            name="exp-{i:02}", plan_id=first.plan_id, image="ollama/ollama:0.6.5", expose=[11434]
        )
        report = await fluence.deploy_all_and_wait(spec.many(20), until=Until.READY, fallback=second)
    return report.timeline().svg


async def tutorial() -> str:
    """Launch the tutorial's twenty notebooks, at the tutorial's time scale."""
    async with Session(DEFAULT_API_KEY, wire=SimulatorWire(Simulator(), time_scale=3)) as fluence:
        offer = await fluence.plans.cheapest(kind="container", gpu="t4")
        image = next(image for image in await fluence.images.list() if image.slug == "jupyter-lab")
        spec = image.to_spec(name="lab-{i:02}", plan_id=offer.plan_id)
        report = await fluence.deploy_all_and_wait(spec.many(20), until=Until.READY)
    return report.timeline().svg


def draw() -> dict[str, str]:
    """Return the current pictures by file name."""
    return {"timeline.svg": run_virtual(launch()), "tutorial.svg": run_virtual(tutorial())}


if __name__ == "__main__":
    for name, svg in draw().items():
        (FOLDER / name).write_text(svg, encoding="utf-8")
