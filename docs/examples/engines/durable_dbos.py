"""A fleet of containers that survives its own process: DBOS, one process, one SQLite file, no server.

python durable_dbos.py launch exp-7 50   starts the run, or goes on with it after a crash
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

fluence: Session  # one for the process: `launch` opens it before DBOS begins to recover


def open_session() -> Session:
    """The journal lies beside the database: whoever has the one has the other."""
    return Session(journal=JOURNAL)


def spec_for(name: str) -> ContainerSpec:
    """Made inside the step, so that the database never sees what is in it."""
    return ContainerSpec(
        name=name,
        plan_id=os.environ["PLAN_ID"],
        image="ollama/ollama:0.6.5",
        expose=[11434],
        environment={"TOKEN": os.environ.get("TOKEN", "")},
    )


FINAL = (SpecError, RefusedError, InvalidRequestError, AuthError, ConfigError, LifecycleError)


def may_pass(error: BaseException) -> bool:
    """Whether trying again can help."""
    return not isinstance(error, FINAL)


@DBOS.step(retries_allowed=True, max_attempts=20, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def ensure(name: str) -> str:
    """At least once: what an attempt that died had launched, the next one takes. Then its id is on record."""
    ref = await fluence.ensure(spec_for(name))
    return ref.id


@DBOS.step(retries_allowed=True, max_attempts=20, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def wait(name: str, id: str) -> None:
    await fluence.wait(InstanceRef(Kind.CONTAINER, id, name), until=Until.READY)


@DBOS.step(retries_allowed=True, max_attempts=1000, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def terminate(name: str, id: str) -> None:
    """At least once: what has ended already is a success."""
    await fluence.terminate_and_wait(InstanceRef(Kind.CONTAINER, id, name), timeout=None)


@DBOS.step()
async def work(ids: list[str]) -> None:
    """Yours."""
    print("ready:", *ids, flush=True)


@DBOS.workflow()
async def fleet(size: int) -> int:
    """Launch, work, wait for "stop", and end all of it; gives how many there were."""
    names = [f"{DBOS.workflow_id}-{i:03}" for i in range(size)]  # the same in every life of this run
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
    # A version of our own: by default it is a hash of the source, and a changed program recovers nothing.
    config = DBOSConfig(
        name="fleet", system_database_url=DATABASE, application_version="1", log_level="WARNING"
    )
    async with open_session() as fluence:
        DBOS(config=config)
        DBOS.launch()  # here, where a loop runs: steps then run in it, as the session must
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
