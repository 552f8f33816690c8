"""Memory and time of a session that deploys thousands of instances in 30 days of virtual time.

`tests/test_months.py` uses it with a few thousand deploys, `benchmarks/months.py` with 100,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from random import Random

import attrs

from aiofluence import DeployPolicy, FluenceError, Poll, RateLimit, Session, UncertainDeployError
from aiofluence.models.specs import Spec
from aiofluence.simulator import run_virtual

from .lives import make_spec
from .second_service import Cloud, Episode, SecondWire

DAYS = 30.0
TOGETHER = 10
"""Concurrent deploys."""
_SHOWN = 800
_TRACED = 160
FATES = ("ended", "ended", "ended", "deleted", "kept", "cancelled", "refused", "lost", "failed", "running")


@attrs.frozen
class Months:
    """Cost of a session of 30 days.

    Attributes:
        deploys: number of deploys.
        grown: bytes allocated in the last part and still in use at the end.
        measured: deploys in the last part.
        seconds: CPU seconds of each tenth of the deploys before the last part.
        requests: requests in each tenth.
        live: live instances at the end that no caller holds.
        journal: size of the journal's file at the end, in bytes.
    """

    deploys: int
    grown: int
    measured: int
    seconds: Sequence[float]
    requests: Sequence[int]
    live: int
    journal: int = 0

    @property
    def bytes_a_deploy(self) -> float:
        """Memory growth per deploy in the last part."""
        return self.grown / self.measured


def run_months(deploys: int, *, journal: Path | None = None) -> Months:
    """Run `deploys` deploys of every fate within `DAYS`, and measure the growth of the last part.

    Tracing the memory of all deploys would take three times as long.
    """
    months = run_virtual(_months(deploys, journal))
    return attrs.evolve(months, journal=journal.stat().st_size) if journal is not None else months


async def _months(deploys: int, journal: Path | None) -> Months:
    rng = Random(deploys)
    cloud = Cloud(rng, provision=lambda: rng.uniform(6, 20), fails=0.03)
    cloud.is_lean = True
    session = Session(
        "key-1234567890",
        wire=SecondWire(cloud, "months"),
        rate=RateLimit(1000, 1000),
        poll=Poll(interval=5),
        journal=journal,
        close_timeout=7200,
        deploy=DeployPolicy(settle=5, watch=20, max_posts=2),
    )
    rounds = deploys // TOGETHER
    tenth = (rounds - max(_TRACED // TOGETHER, rounds // 20)) // 10
    first = 10 * tenth
    base = (first + rounds) // 2
    grown = 0
    seconds: list[float] = []
    requests: list[int] = []
    pause = DAYS * 86400 / rounds
    held: dict[str, None] = {}
    began, asked = 0.0, 0
    async with session as fluence:
        for number in range(rounds):
            if number == first:
                tracemalloc.start()
            if number == base:  # memory that is allocated only once is in use by now
                gc.collect()
                grown = -tracemalloc.get_traced_memory()[0]
            if number <= first and number % tenth == 0:
                if number:
                    seconds.append(time.process_time() - began)
                    requests.append(cloud.requests - asked)
                began, asked = time.process_time(), cloud.requests
            names = [f"job-{number}-{index}" for index in range(TOGETHER)]
            until = asyncio.get_running_loop().time() + pause
            fates = zip(FATES, names, strict=True)
            await asyncio.gather(*(_one(fluence, cloud, rng, fate, name, held) for fate, name in fates))
            await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
            _forget(cloud, held)
        await asyncio.sleep(3600)
        _forget(cloud, held)
        gc.collect()
        grown += tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    live = sum(row.id not in held for row in cloud.live())
    return Months(deploys, grown, (rounds - base) * TOGETHER, seconds, requests, live)


async def _one(
    fluence: Session, cloud: Cloud, rng: Random, fate: str, name: str, held: dict[str, None]
) -> None:
    kind = rng.choice(("container", "vm", "baremetal"))
    spec = make_spec(kind, name)
    if fate in ("refused", "lost"):
        status = {"act": "page", "status": 400, "body": b'{"detail": "Insufficient balance"}', "headers": {}}
        lost = {"act": "lose", "form": "reset", "commit": True}
        how = status if fate == "refused" else lost
        await asyncio.sleep(0 if fate == "refused" else 60)
        cloud.episodes[:] = [Episode(fate, on=frozenset({"deploy"}), how=how, times=1)]
    with contextlib.suppress(FluenceError, TimeoutError):
        if fate in ("kept", "refused"):
            ref = await fluence.ensure(spec)
            if rng.random() < 0.3:
                held[ref.id] = None
            else:
                await fluence.terminate_and_wait(ref)
        elif fate == "cancelled":
            async with asyncio.timeout(rng.uniform(0, 5)):
                await fluence.deploy_and_wait(spec)
        elif fate == "running":
            async with fluence.running(spec):
                await asyncio.sleep(5)
        else:
            await _deploy_and_end(fluence, rng, spec, fate, held)


async def _deploy_and_end(
    fluence: Session, rng: Random, spec: Spec, fate: str, held: dict[str, None]
) -> None:
    try:
        instance = await fluence.deploy_and_wait(spec)
    except UncertainDeployError as error:
        if ref := await error.resolve():
            await fluence.terminate_and_wait(ref)
        return
    if fate == "deleted" and rng.random() < 0.1:
        resources = {"container": fluence.containers, "vm": fluence.vms, "baremetal": fluence.baremetal}
        held[instance.id] = None
        await resources[instance.kind.value].terminate(instance.id)  # type: ignore[attr-defined]
    else:
        await fluence.terminate_and_wait(instance)


def _forget(cloud: Cloud, held: dict[str, None]) -> None:
    """Delete ended rows, so that the service's own memory is not measured, and end the held rows.

    A LIST keeps ended instances (contract 1). Therefore the last `_SHOWN` held rows stay: no session has seen
    their end.
    """
    cloud.forget_requests()
    for id in held:
        cloud.rows[id].ended = cloud.rows[id].ended or cloud.now
    for id in [id for id, row in cloud.rows.items() if id not in held and not row.is_live(cloud.now)]:
        del cloud.rows[id]
    for id in list(held)[:-_SHOWN]:
        del cloud.rows[id], held[id]
