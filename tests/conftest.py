"""Fixtures and hypothesis profiles of all tests.

`ci` is the default profile. `HYPOTHESIS_PROFILE=thorough` searches longer, as `nox -s thorough` does.
tools/mutation.py uses `mutation`: few examples, the same for each mutant.
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

# Background jobs of a shell script ignore SIGINT, and nohup ignores SIGHUP. Child processes inherit this.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A developer's key, address or journal is not the tests'.
for variable in [name for name in os.environ if name.startswith("FLUENCE_")]:
    del os.environ[variable]

# On a shared machine a slow example proves nothing about the code. No profile has a deadline.
# Under CI the examples are the same each time, so that a failure is caused by the tested change.
settings.register_profile(
    "ci",
    max_examples=60,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
settings.register_profile("mutation", settings.get_profile("ci"), max_examples=100, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


WAITING = ("tests/engines/", "tests/nginx/", "tests/shared_rate/", "tests/cli/test_demo.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for real time, so that other tests fill the time."""
    items.sort(key=lambda item: not item.nodeid.startswith(WAITING))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Name the only backend of the library: aiohttp needs asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return a certificate authority that no machine trusts."""
    return trustme.CA()


@pytest.fixture
async def tls_server(authority: trustme.CA) -> AsyncIterator[RawServer]:
    """Run an HTTPS server that has a certificate of `authority` and answers `[]`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with RawServer(then=http("200 OK", b"[]"), context=context) as server:
        yield server
