"""Deviations of the service: each is found by its claim, alone and together, and a simulator imitates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aiofluence.conformance.probe import Level
from aiofluence.simulator import Simulator

from ..harness import THOROUGH, VIRTUAL, sample
from .bench import give_history, ids, observe, observe_simulator
from .deviating import DEVIATIONS, FREE, KEY, REFUNDED, Deviating


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


def level_of(claim: str) -> Level:
    return Level.FREE if claim in FREE else Level.REFUNDED if claim in REFUNDED else Level.PAID


async def test_no_deviation_no_contradiction() -> None:
    service = Deviating()
    seen = await observe(service, Level.PAID, key=KEY)
    assert [(f.claim, f.expected, f.observed) for f in seen.contradicted] == []
    assert len([f for f in seen.findings if f.verdict == "confirmed"]) >= 95
    assert [row.name for row in service.live] == ["earlier-3", "earlier-4"]


@pytest.mark.parametrize("claim", [claim for (claim,) in sample(3, DEVIATIONS)])
async def test_alone(claim: str, tmp_path: Path) -> None:
    seen = await observe(Deviating({claim}), level_of(claim), key=KEY)
    assert ids(seen) == {claim}, [(f.claim, f.expected, f.observed) for f in seen.contradicted]
    if THOROUGH:  # they are imitated together, below
        await is_imitated({claim}, level_of(claim), seen, tmp_path)


async def test_all_together(tmp_path: Path) -> None:
    assert len(DEVIATIONS) >= 30
    seen = await observe(Deviating(DEVIATIONS), Level.PAID, key=KEY)
    difference = ids(seen) ^ set(DEVIATIONS)
    assert not difference, [f for f in seen.findings if f.claim in difference]
    await is_imitated(set(DEVIATIONS), Level.PAID, seen, tmp_path)


async def is_imitated(claims: set[str], level: Level, seen: Any, folder: Path) -> None:
    """Check that a simulator made from the file shows the same deviations to the same command."""
    file = folder / "observations.json"
    seen.write(file)
    simulator = Simulator.from_observations(file)
    await give_history(simulator)
    again = await observe_simulator(simulator, level)
    difference = ids(again) ^ claims
    assert not difference, [f for f in again.findings if f.claim in difference]
