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
        image="ubuntu:22.04",
        expose=[22],
        environment={"TOKEN": os.environ.get("TOKEN", "")},
    )


def may_pass(error: BaseException) -> bool:
    """Whether trying again can help: not against a refusal."""
    return not isinstance(error, SpecError | RefusedError | InvalidRequestError | AuthError | ConfigError)


@DBOS.step(retries_allowed=True, max_attempts=20, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def ensure(name: str) -> str:
    """At least once: what an attempt that died had launched, the next one takes."""
    container = await fluence.ensure(spec_for(name), until=Until.READY)
    return container.id


@DBOS.step(retries_allowed=True, max_attempts=1000, interval_seconds=5, backoff_rate=1, should_retry=may_pass)
async def terminate(name: str, id: str) -> None:
    """At least once: what has ended already is a success."""
    await fluence.terminate_and_wait(InstanceRef(Kind.CONTAINER, id, name))


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
    if len(ids) == size:
        await work(list(ids.values()))
        await DBOS.recv_async("stop", timeout_seconds=A_DAY)
    await asyncio.gather(*(terminate(name, id) for name, id in ids.items()))
    if len(ids) < size:
        raise RuntimeError("; ".join(str(error) for error in found if isinstance(error, Exception)))
    return len(ids)


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


def main(command: str, run: str, size: str = "1") -> None:
    if command == "launch":
        aiofluence.run(launch(run, int(size)))
    else:
        DBOSClient(system_database_url=DATABASE).send(run, "now", topic="stop")


if __name__ == "__main__":
    main(*sys.argv[1:])
