"""A FastAPI app that owns one session: all its requests share rate limit, pool and custody.

Run it with `uvicorn web_app:app`. If a client leaves during a POST, nothing stays running: the deploy is
cancelled, and the session sees the container gone. Stopping the app waits for that too.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import StreamingResponse

from aiofluence import (
    ConfigError,
    Container,
    ContainerSpec,
    FluenceError,
    InvalidRequestError,
    LogLine,
    NotFoundError,
    PlanUnavailableError,
    Session,
    SpecError,
    UnsupportedImageError,
    Until,
    unique_name,
)

T = TypeVar("T")
Image = Annotated[str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")]  # any other value returns a 422


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Session(journal="web-app.journal") as fluence:
        await fluence.sweep(dry_run=False)  # instances that an earlier process left behind
        app.state.fluence = fluence
        yield


app = FastAPI(lifespan=lifespan)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it when the client leaves: neither the server nor the framework does so."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HTTPException(499, "the client has gone")  # for the access log; no client reads it
    finally:
        # After a cancelled handler, as at the server's shutdown, both tasks still run.
        task.cancel()
        gone.cancel()
        await asyncio.wait([task, gone])


async def _disconnect(request: Request) -> None:
    """Wait until the client has gone; after the request's body, no other message can arrive."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@app.post("/workers")
async def start(request: Request, image: Image) -> dict[str, str]:
    fluence: Session = request.app.state.fluence
    try:
        offer = await fluence.plans.cheapest(kind="container", min_memory="8Gi")
        spec = ContainerSpec(name=unique_name("web"), plan_id=offer.plan_id, image=image, expose=["80/http"])
        container = await while_connected(request, fluence.deploy_and_wait(spec, until=Until.READY))
    except (SpecError, InvalidRequestError, UnsupportedImageError) as error:
        raise HTTPException(422, str(error)) from None
    except PlanUnavailableError:
        raise HTTPException(503, "no container is to be had") from None
    except FluenceError as error:
        raise HTTPException(502, str(error)) from None  # the text has no secrets
    if await request.is_disconnected():  # the client left at the last moment: this reply will not arrive
        await fluence.terminate_and_wait(container)
    return {"id": container.id, "name": container.name}


async def _worker(request: Request, id: str) -> Container:
    fluence: Session = request.app.state.fluence
    try:
        return await fluence.containers.get(id)
    except (NotFoundError, InvalidRequestError, ConfigError):  # an unknown or malformed id
        raise HTTPException(404, "no such worker") from None
    except FluenceError as error:
        raise HTTPException(502, str(error)) from None


@app.get("/workers/{id}/logs")
async def logs(request: Request, id: str, lines: Annotated[int, Query(ge=1)] = 10) -> StreamingResponse:
    fluence: Session = request.app.state.fluence
    worker = await _worker(request, id)  # before the stream begins, while the status can still be a 404

    async def stream() -> AsyncIterator[str]:
        left = lines
        async for item in fluence.tail_logs(worker):
            yield f"{item.text if isinstance(item, LogLine) else item}\n"
            left -= 1
            if not left:
                return

    return StreamingResponse(stream(), media_type="text/plain")


@app.delete("/workers/{id}")
async def stop(request: Request, id: str) -> None:
    fluence: Session = request.app.state.fluence
    await fluence.terminate_and_wait(await _worker(request, id))
