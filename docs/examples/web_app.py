"""A FastAPI app that owns one session: rate limit, pool and custody are shared by all requests.

Run it with `uvicorn web_app:app`. A client that goes away in the middle of a POST leaves nothing running: the
request is cancelled, and the session sees the container gone. Stopping the app waits for that, too.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from aiofluence import ContainerSpec, FluenceError, InstanceRef, Kind, LogLine, Session, Until, unique_name


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Session(journal="web-app.journal") as fluence:
        await fluence.sweep(dry_run=False)  # what an earlier process had to leave behind
        app.state.fluence = fluence
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/workers")
async def start(request: Request, image: str) -> dict[str, str]:
    fluence: Session = request.app.state.fluence
    offer, *_ = await fluence.plans.find(kind="container")
    spec = ContainerSpec(name=unique_name("web"), plan_id=offer.plan_id, image=image, expose=["80/http"])
    try:
        container = await fluence.deploy_and_wait(spec, until=Until.READY)
    except FluenceError as error:
        raise HTTPException(502, str(error)) from None  # no secrets are in it
    return {"id": container.id, "name": container.name}


@app.get("/workers/{id}/logs")
async def logs(request: Request, id: str, lines: int = 10) -> StreamingResponse:
    fluence: Session = request.app.state.fluence

    async def stream() -> AsyncIterator[str]:
        left = lines
        async for item in fluence.tail_logs(InstanceRef(Kind.CONTAINER, id, "web")):
            yield f"{item.text if isinstance(item, LogLine) else item}\n"
            left -= 1
            if not left:
                return

    return StreamingResponse(stream(), media_type="text/plain")


@app.delete("/workers/{id}")
async def stop(request: Request, id: str) -> None:
    fluence: Session = request.app.state.fluence
    await fluence.terminate_and_wait(InstanceRef(Kind.CONTAINER, id, "web"))
