"""Fixtures and profiles that every test shares.

hypothesis: `ci` is the default; `HYPOTHESIS_PROFILE=thorough` searches for longer, as `nox -s thorough` does.
`mutation` is what tools/mutation.py uses: few examples, the same for each mutant.
"""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from hypothesis import HealthCheck, settings

from .harness import RawServer, http

# What a script starts in the background ignores Ctrl-C, and so would every child of ours.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a shared machine a slow example says nothing about the code, so time is no criterion in either profile.
# Under CI the examples are the same each time: a red run must be about the change that it tests.
settings.register_profile(
    "ci",
    max_examples=150,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.register_profile("mutation", settings.get_profile("ci"), max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The library is asyncio's: aiohttp knows no other loop."""
    return "asyncio"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that no machine trusts."""
    return trustme.CA()


@pytest.fixture
async def tls_server(authority: trustme.CA) -> AsyncIterator[RawServer]:
    """An HTTPS server with a certificate of `authority`; it answers `[]`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with RawServer(then=http("200 OK", b"[]"), context=context) as server:
        yield server
