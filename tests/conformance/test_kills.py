"""The paid level under faults and SIGKILL leaves nothing running, and costs no more than allowed.

`python -m benchmarks.conformance_kills` lives 200 such lives.
"""

from __future__ import annotations

import os

import pytest

from ..harness import THOROUGH
from .kills import live

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.parametrize("seed", range(30 if THOROUGH else 4))
def test_killed_runs_leave_nothing(seed: int) -> None:
    life = live(seed)
    assert life.is_sound, life
