"""A fleet of containers that survives its workers: Temporal, with any number of workers.

python durable_temporal.py worker            works until Ctrl-C or SIGTERM; start it again after a crash
python durable_temporal.py launch exp-7 50   starts the run, or finds it, and waits until it has ended
python durable_temporal.py stop exp-7        ends it; `cancel` does too
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
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

QUEUE = "fluence"
A_DAY = timedelta(days=1)

FINAL = (SpecError, RefusedError, InvalidRequestError, AuthError, ConfigError, LifecycleError)

# A worker without a heartbeat counts as dead, and another attempt begins `SETTLE` later. By then a list shows
# each instance that the dead worker deployed. Not shorter than `DeployPolicy.settle`, and without growth.
HEARTBEAT = timedelta(seconds=30)
SETTLE = timedelta(seconds=90)


def open_session() -> Session:
    """Open the session of a worker process. No journal: the next attempt may run on another machine."""
    return Session()


def spec_for(name: str) -> ContainerSpec:
    """Build the spec inside the activity, so that its contents never reach the history."""
    return ContainerSpec(
        name=name,
        plan_id=os.environ["PLAN_ID"],
        image="ollama/ollama:0.6.5",
        expose=[11434],
        environment={"TOKEN": os.environ.get("TOKEN", "")},
    )


@asynccontextmanager
async def an_attempt() -> AsyncIterator[None]:
    """Send heartbeats to the server, and mark final errors as such."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(HEARTBEAT.total_seconds() / 3)

    beating = asyncio.create_task(beat())
    try:
        yield
    except FINAL as error:
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from None
    finally:
        beating.cancel()


class Instances:
    """The activities, over the worker's session."""

    def __init__(self, fluence: Session) -> None:
        self.fluence = fluence

    @activity.defn
    async def ensure(self, name: str) -> str:
        """Return the id of the live instance of that name; deploy it if there is none (at least once)."""
        async with an_attempt():
            ref = await self.fluence.ensure(spec_for(name))
        return ref.id

    @activity.defn
    async def wait(self, name: str, id: str) -> None:
        async with an_attempt():
            await self.fluence.wait(InstanceRef(Kind.CONTAINER, id, name), until=Until.READY)

    @activity.defn
    async def terminate(self, name: str, id: str) -> None:
        """End the instance (at least once); an instance that has already ended is a success."""
        async with an_attempt():
            await self.fluence.terminate_and_wait(InstanceRef(Kind.CONTAINER, id, name), timeout=None)

    @activity.defn
    async def work(self, ids: list[str]) -> None:
        """Put your own work here."""
        print("ready:", *ids, flush=True)


@workflow.defn
class Fleet:
    """Launch, work, wait for "stop" or a cancellation, end all instances, and return their number."""

    def __init__(self) -> None:
        self.stopped = False

    @workflow.signal
    def stop(self) -> None:
        self.stopped = True

    @workflow.run
    async def run(self, size: int) -> int:
        names = [f"{workflow.info().workflow_id}-{i:03}" for i in range(size)]
        ensuring = asyncio.gather(*map(self.ensure, names), return_exceptions=True)
        try:
            found = await asyncio.shield(ensuring)  # a pending deploy cannot be ended yet: never cancel it
            if errors := [error for error in found if isinstance(error, BaseException)]:
                raise errors[0]
            ids = [id for id in found if isinstance(id, str)]
            await asyncio.gather(*map(self.wait, names, ids))
            await workflow.execute_activity_method(
                Instances.work, ids, start_to_close_timeout=timedelta(minutes=10)
            )
            await workflow.wait_condition(lambda: self.stopped, timeout=A_DAY)
        finally:
            launched = zip(names, await ensuring, strict=True)
            await asyncio.gather(*(self.terminate(name, id) for name, id in launched if isinstance(id, str)))
        return size

    def ensure(self, name: str) -> workflow.ActivityHandle[str]:
        return workflow.start_activity_method(
            Instances.ensure,
            name,
            start_to_close_timeout=timedelta(minutes=20),
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RetryPolicy(initial_interval=SETTLE, backoff_coefficient=1),
        )

    def wait(self, name: str, id: str) -> workflow.ActivityHandle[None]:
        return workflow.start_activity_method(
            Instances.wait,
            args=[name, id],
            start_to_close_timeout=timedelta(minutes=20),
            heartbeat_timeout=HEARTBEAT,
        )

    def terminate(self, name: str, id: str) -> workflow.ActivityHandle[None]:
        return workflow.start_activity_method(
            Instances.terminate,
            args=[name, id],
            start_to_close_timeout=timedelta(minutes=20),
            heartbeat_timeout=HEARTBEAT,
        )


async def connect() -> Client:
    return await Client.connect(os.environ.get("TEMPORAL_ADDRESS", "localhost:7233"))


async def work() -> None:
    client = await connect()
    async with open_session() as fluence:
        its = Instances(fluence)
        async with Worker(
            client,
            task_queue=QUEUE,
            workflows=[Fleet],
            activities=[its.ensure, its.wait, its.terminate, its.work],
        ):
            await asyncio.Event().wait()


async def launch(run: str, size: int) -> None:
    client = await connect()
    handle = await client.start_workflow(
        Fleet.run, size, id=run, task_queue=QUEUE, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
    )
    print("ended:", await handle.result(), flush=True)


async def stop(run: str) -> None:
    client = await connect()
    await client.get_workflow_handle(run).signal(Fleet.stop)


async def cancel(run: str) -> None:
    client = await connect()
    await client.get_workflow_handle(run).cancel()


async def main(command: str, run: str = "", size: str = "1") -> None:
    if command == "worker":
        await work()
    elif command == "launch":
        await launch(run, int(size))
    elif command == "stop":
        await stop(run)
    elif command == "cancel":
        await cancel(run)


if __name__ == "__main__":
    aiofluence.run(main(*sys.argv[1:]))
