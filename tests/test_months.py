"""The cost of doubt and of months: shared looks, backoff, and memory that does not grow."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aiofluence import DeployPolicy, FluenceError, RateLimit, Request, Session, UncertainDeployError
from aiofluence.simulator import run_virtual

from .lives import make_spec
from .months import run_months
from .second_service import Cloud, Episode, SecondWire

DEPLOYS = 360
A_DEPLOY = 50 * 2**20 / 100_000
"""Bytes that one deploy may leave behind: 100,000 of them fit into 50 MiB."""
LOOK = 3.0
"""Seconds between two looks for an unclear deploy."""
LOST = Episode("lost", on=frozenset({"deploy"}), how={"act": "lose", "form": "reset"})


class CountingWire(SecondWire):
    """A wire that notes when each LIST of containers leaves."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud, "counted")
        self.lists: list[float] = []

    async def send(self, request: Request) -> Any:
        """Note the loop time of a LIST, and send."""
        if (request.method, request.path) == ("GET", "/gpu/instances/"):
            self.lists.append(asyncio.get_running_loop().time())
        return await super().send(request)


async def _doubts(cloud: Cloud, deploys: int, policy: DeployPolicy) -> tuple[list[float], float, list[Any]]:
    """Loop times of the LISTs, loop time of the last deploy's end, and the outcomes."""
    wire = CountingWire(cloud)
    session = Session("key-1234567890", wire=wire, rate=RateLimit(1000, 1000), deploy=policy)
    async with session as fluence:
        specs = [make_spec("container", f"job-{number}") for number in range(deploys)]
        outcomes = await asyncio.gather(*map(fluence.containers.deploy, specs), return_exceptions=True)
        ended = asyncio.get_running_loop().time()
    return wire.lists, ended, outcomes


def test_unclear_deploys_share_their_looks() -> None:
    """200 unclear deploys on an account of 600 rows: two LISTs a look for all of them."""

    async def doubt() -> tuple[list[float], float, list[Any]]:
        cloud = Cloud(Random(1), [LOST])
        for number in range(600):
            cloud.add("container", f"old-{number}", age=86400.0 + number, over=True)
        return await _doubts(cloud, 200, DeployPolicy(settle=30, watch=60, max_posts=1))

    lists, ended, outcomes = run_virtual(doubt)
    assert all(isinstance(outcome, UncertainDeployError) for outcome in outcomes)
    assert ended < 60
    buckets = Counter(int(when / LOOK) for when in lists)
    assert max(buckets.values()) <= 2, buckets
    assert len(lists) > 10


def test_shared_lists_find_all_unclear_deploys() -> None:
    """200 answers that are lost behind the commit: each deploy finds its own instance, for few LISTs."""

    async def doubt() -> tuple[list[float], float, list[Any], int]:
        lost = Episode("lost", on=LOST.on, how={"act": "lose", "form": "cut", "commit": True})
        cloud = Cloud(Random(2), [lost], lag=8.0)
        lists, ended, outcomes = await _doubts(cloud, 200, DeployPolicy(settle=30, watch=30))
        assert {outcome.name: outcome.id for outcome in outcomes} == {
            row.name: row.id for row in cloud.live()
        }
        return lists, ended, outcomes, len(cloud.posts)

    lists, ended, _, posts = run_virtual(doubt)
    assert posts == 200
    assert ended < 25
    assert max(Counter(int(when / LOOK) for when in lists).values()) <= 2


@pytest.mark.parametrize("deploys", [1, 50])
def test_a_failing_service_is_asked_with_backoff(deploys: int) -> None:
    """LISTs that fail for minutes: fewer and fewer of them, and no more for 50 deploys than for one."""

    async def doubt() -> list[float]:
        down = Episode("down", on=frozenset({"list"}), how={"act": "lose", "form": "500"})
        lists, _, outcomes = await _doubts(
            Cloud(Random(3), [LOST, down]), deploys, DeployPolicy(settle=30, watch=300, max_posts=1)
        )
        assert all(isinstance(outcome, FluenceError) for outcome in outcomes)
        return lists

    lists = run_virtual(doubt)
    early = sum(when < 60 for when in lists)
    late = sum(150 <= when < 300 for when in lists)
    assert late <= 100
    assert late / 150 < early / 60


@pytest.mark.timeout(300)
def test_months_leave_no_trace(tmp_path: Path) -> None:
    """30 days and thousands of deploys of every fate: memory, time and requests of each stay the same."""
    months = run_months(DEPLOYS, journal=tmp_path / "journal")
    assert months.live == 0
    assert months.bytes_a_deploy < A_DEPLOY, months
    # The lists of the service grow until a third of the deploys are made.
    assert min(months.seconds[-3:]) < 2 * min(months.seconds[4:6]), months
    assert max(months.requests) < 1.3 * min(months.requests), months
