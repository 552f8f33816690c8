"""Fixtures and profiles that every test shares.

hypothesis: `ci` is the default; `HYPOTHESIS_PROFILE=thorough` searches for longer, for a night or a doubt.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# On a shared machine a slow example says nothing about the code, so time is no criterion in either profile.
# Under CI the examples are the same each time: a red run must be about the change that it tests.
settings.register_profile(
    "ci",
    max_examples=300,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The library is asyncio's: aiohttp knows no other loop."""
    return "asyncio"
