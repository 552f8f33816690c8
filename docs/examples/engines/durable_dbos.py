"""A fleet of containers that survives the end of its process: DBOS, one process, one SQLite file, no server.

python durable_dbos.py launch exp-7 50   starts the run, or continues it after a crash
python durable_dbos.py stop exp-7        ends it, from any other shell of this folder
"""

from __future__ import annotations

import asyncio
import os
import sys

from dbos import DBOS, DBOSClient, DBOSConfig, SetWorkflowID

import aiofluence
from aiofluence import (
    AuthError,
    ConfigError,
    ContainerSpec,
    InstanceRef,
    InvalidRequestError,
    Kind,
    LifecycleError,
    RefusedError,
    Session,
    SpecError,
    Until,
)

DATABASE = "sqlite:///fleet.sqlite"
JOURNAL = "fleet.journal"
A_DAY = 24 * 3600.0

fluence: Session  # one per process: `launch` opens it before DBOS begins to recover


def open_session() -> Session:
    """Open the session, with its journal beside the database, so that both survive or neither."""
    return Session(journal=JOURNAL)


def spec_for(name: str) -> ContainerSpec:
    """Build the spec inside the step, so that its contents never reach the database."""
    return ContainerSpec(
        name=name,
        plan_id=os.environ["PLAN_ID"],
        image="ollama/ollama:0.6.5",
        expose=[11434],
        environment={"TOKEN": os.environ.get("TOKEN", "")},
    )


FINAL = (SpecError, RefusedError, InvalidRequestError, AuthError, ConfigError, LifecycleError)


def may_pass(error: BaseException) -> bool:
    """Return True if a retry can help."""
    return not isinstance(error, FINAL)


@DBOS.step(retries_allowed=True, max_attempts=20, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def ensure(name: str) -> str:
    """Return the id of the live instance of that name; deploy it if there is none (at least once)."""
    ref = await fluence.ensure(spec_for(name))
    return ref.id


@DBOS.step(retries_allowed=True, max_attempts=20, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def wait(name: str, id: str) -> None:
    await fluence.wait(InstanceRef(Kind.CONTAINER, id, name), until=Until.READY)


@DBOS.step(retries_allowed=True, max_attempts=1000, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def terminate(name: str, id: str) -> None:
    """End the instance (at least once); an instance that has already ended is a success."""
    await fluence.terminate_and_wait(InstanceRef(Kind.CONTAINER, id, name), timeout=None)


@DBOS.step()
async def work(ids: list[str]) -> None:
    """Put your own work here."""
    print("ready:", *ids, flush=True)


@DBOS.workflow()
async def fleet(size: int) -> int:
    """Launch, work, wait for "stop", end all instances, and return their number."""
    names = [f"{DBOS.workflow_id}-{i:03}" for i in range(size)]  # the same after each restart of this run
    found = await asyncio.gather(*map(ensure, names), return_exceptions=True)
    ids = {name: id for name, id in zip(names, found, strict=True) if isinstance(id, str)}
    errors = [error for error in found if isinstance(error, BaseException)]
    if not errors:
        waited = await asyncio.gather(*(wait(name, id) for name, id in ids.items()), return_exceptions=True)
        errors = [error for error in waited if isinstance(error, BaseException)]
    if not errors:
        await work(list(ids.values()))
        await DBOS.recv_async("stop", timeout_seconds=A_DAY)
    await asyncio.gather(*(terminate(name, id) for name, id in ids.items()))
    if errors:
        raise errors[0]
    return size


async def launch(run: str, size: int) -> None:
    global fluence
    # A fixed version: the default is a hash of the source, so a changed program would recover nothing.
    config = DBOSConfig(
        name="fleet", system_database_url=DATABASE, application_version="1", log_level="WARNING"
    )
    async with open_session() as fluence:
        DBOS(config=config)
        DBOS.launch()  # inside the event loop, so that steps run in the session's loop
        try:
            with SetWorkflowID(run):
                handle = await DBOS.start_workflow_async(fleet, size)
            print("ended:", await handle.get_result(), flush=True)
        finally:
            DBOS.destroy()


async def main(command: str, run: str, size: str = "1") -> None:
    if command == "launch":
        await launch(run, int(size))
    elif command == "stop":
        await DBOSClient(system_database_url=DATABASE).send_async(run, "now", topic="stop")


if __name__ == "__main__":
    aiofluence.run(main(*sys.argv[1:]))
