"""Exactly once, as a model: hundreds of random lives, and not one name that is paid for twice.

`benchmarks/exactly_once.py` makes thousands of them, for `docs/money.md`.
"""

from __future__ import annotations

import attrs
import pytest

from .harness import THOROUGH
from .model import Setting, run

# Sixty also show more than five twins where the promise has nothing to rest on: see the last test.
RUNS = 600 if THOROUGH else 15
PROMISED = [
    Setting("one run"),
    Setting("one run, adopting", adopt=True),
    Setting("one run, with a journal", journal=True),
    Setting("killed and run again, with a journal and adopting", crash=True, adopt=True, journal=True),
]


@pytest.mark.parametrize("setting", PROMISED, ids=lambda setting: setting.title)
def test_nothing_is_paid_for_twice(setting: Setting) -> None:
    for seed in range(RUNS):
        result = run(setting, seed)
        assert (result.twice, result.lost, result.harmed) == (0, 0, 0), f"seed {seed}: {result}"


def test_the_model_can_tell() -> None:
    """Without `settle` and `watch`, which the promise needs, the same lives end with duplicates."""
    careless = Setting("careless", settle=0.0, watch=0.0)
    assert sum(run(careless, seed).twice for seed in range(12)) > 2
    watched = attrs.evolve(careless, watch=200.0)
    assert sum(run(watched, seed).twice for seed in range(12)) == 0
