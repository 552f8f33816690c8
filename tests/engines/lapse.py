"""Runs an example of the docs as it stands, in time-lapse, as one of its lives: a process forked by `lives`.

Only its times are other ones; the simulator that it talks to runs as much faster. With `CARELESS=1` it does
without what the example says is needed after a crash: the journal, the pause before another attempt.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiofluence
from aiofluence import DeployPolicy, Poll, RateLimit, Session

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "engines"
SCALE = 25.0
"""Simulated seconds in one real second."""


def session(*, careless: bool, journal: str | None = None) -> Session:
    """A session whose patience is in proportion, and so narrow that a launch takes several lives."""
    return Session(
        rate=RateLimit(per_second=10 * SCALE, burst=20),
        max_in_flight=2,
        poll=Poll(interval=4 / SCALE),  # instances are ready sooner here, too
        deploy=DeployPolicy(settle=90 / SCALE, watch=100 / SCALE),  # as late as anything comes in `lives`
        journal=None if careless else journal,
    )


def hurry(example: Any, careless: bool) -> None:
    """Shorten what Temporal waits for."""
    sandbox = importlib.import_module("temporalio.worker.workflow_sandbox")
    example.HEARTBEAT /= SCALE / 2  # not in proportion: a busy machine may be late with one
    example.SETTLE = timedelta(seconds=0.01) if careless else example.SETTLE / SCALE
    connect = example.connect

    async def connect_and_hurry() -> Any:
        client = await connect()
        # Then the server gives the task of a dead worker to another one; else after 10 seconds.
        client.start_workflow = partial(client.start_workflow, task_timeout=timedelta(seconds=5))
        return client

    example.connect = connect_and_hurry
    example.Worker = partial(
        example.Worker,
        build_id="1",  # by default a hash over all that is imported, which takes seconds to compute
        # The sandbox would import the example anew, and with it the times that we have just changed.
        workflow_runner=sandbox.SandboxedWorkflowRunner(
            sandbox.SandboxRestrictions.default.with_passthrough_modules(example.__name__)
        ),
        # The test server, unlike a real one, leaves a workflow's task in a dead worker's own queue for ever.
        max_cached_workflows=0,
    )


def live(said: Path, folder: Path, environment: Mapping[str, str], name: str, *arguments: str) -> None:
    """Be that example, in that folder and environment; what it prints is added to `said`."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with said.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    careless = "CARELESS" in os.environ
    sys.path.insert(0, str(EXAMPLES))
    example: Any = importlib.import_module(name)
    example.Session = partial(session, careless=careless)
    if name == "durable_temporal":
        hurry(example, careless)
    aiofluence.run(example.main(*arguments))
