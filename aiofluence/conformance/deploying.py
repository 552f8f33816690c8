"""Deploys of the levels `refunded` and `paid`: their largest cost, and the watch until ACTIVE.

Every deploy goes through `Session.running`: custody ends the instance, and the journal names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import attrs

from ..http.dates import http_date
from ..http.messages import Call, Reply
from ..lifecycle.options import Until
from ..models.instances import Instance
from ..models.specs import ContainerSpec, Spec
from ..models.values import Kind
from .asking import NO_RESULT, PATHS, Asker, body_of
from .probe import Bench

PROVISIONING: Final = 900.0
"""Seconds that a run waits for ACTIVE."""
HOLD: Final = 1500.0
"""Seconds for which a run keeps a container after ACTIVE, at most."""
_BEGIN_BEFORE: Final = timedelta(minutes=25)
"""Part of a clock hour within which the paid level deploys, so that it usually ends within the hour."""
CLOCK_HOURS: Final = 2
"""Clock hours that an instance touches at most: one is planned, one more if its end is delayed."""


def worst_case(hourly: Decimal) -> Decimal:
    """Return the largest possible rent of one deploy: price times clock hours.

    Provisioning, `HOLD` and the 20 minutes for which a DELETE may be refused are 60 minutes together.
    """
    return hourly * CLOCK_HOURS


async def begin_of_hour(bench: Bench) -> None:
    """Wait for the next clock hour of the service if the present one is nearly over."""
    clock = bench.asker.session._transport.clock
    now = clock.at(asyncio.get_running_loop().time())
    if now is None:
        return
    begun = now.replace(minute=0, second=0, microsecond=0)
    if now - begun > _BEGIN_BEFORE:
        wait = (begun + timedelta(hours=1, seconds=20) - now).total_seconds()
        bench.say(
            f"waiting {wait / 60:.0f} minutes for the next clock hour, so that one hour is paid and not two"
        )
        await asyncio.sleep(wait)


class Unchecked(ContainerSpec):
    """A container spec that breaks a rule on purpose: the client does not refuse it."""

    def problems(self) -> Any:
        """Iterate over nothing."""
        return iter(())


@attrs.define
class Deploy:
    """A deploy while the service works on it.

    Attributes:
        asker: sender of raw requests.
        kind: kind of the instance.
        id: id, as soon as a reply to the POST has it.
        status: status of that reply.
        date: service's time of that reply.
        at: loop time of that reply.
    """

    asker: Asker
    kind: Kind
    id: str = ""
    status: int = 0
    date: datetime | None = None
    at: float = 0.0
    created: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def path(self) -> str:
        """Path of the instance."""
        return f"{PATHS[self.kind].rstrip('/')}/{self.id}"

    @property
    def age(self) -> float:
        """Seconds since the reply to the POST."""
        return asyncio.get_running_loop().time() - self.at

    def note(self, call: Call, reply: Reply) -> None:
        """Keep the reply to the POST."""
        value = body_of(reply) if call.method == "POST" and 200 <= reply.status < 300 else None
        if isinstance(value, dict) and isinstance(value.get("instance_id"), str):
            self.id, self.status = value["instance_id"], reply.status
            self.date = http_date(reply.headers.get("Date") or "")
            self.at = asyncio.get_running_loop().time()
            self.asker.account.add(self.id)
            self.created.set()

    async def detail(self) -> dict[str, Any]:
        """Return the detail, or an empty object if there is none now."""
        try:
            value = await self.asker.fetch(self.path)
        except NO_RESULT:
            return {}
        return value if isinstance(value, dict) else {}

    async def logs(self, last: int | None = None) -> Reply:
        """Return the answer to a request for logs."""
        return await self._lines("logs", last)

    async def events(self) -> list[str]:
        """Return the events that are there now."""
        return _texts(await self._lines("events", None))

    async def lines(self, last: int | None = None) -> list[str]:
        """Return the log lines that are there now."""
        return _texts(await self._lines("logs", last))

    async def _lines(self, name: str, last: int | None) -> Reply:
        query = None if last is None else {"last": str(last)}
        return await self.asker.ask("GET", f"{self.path}/{name}", query=query)


def _texts(reply: Reply) -> list[str]:
    value = body_of(reply)
    return [line for line in value if isinstance(line, str)] if isinstance(value, list) else []


@asynccontextmanager
async def deployed(
    bench: Bench, spec: Spec, early: Callable[[Deploy], Awaitable[None]]
) -> AsyncIterator[tuple[Deploy, Instance]]:
    """Deploy `spec`, and end its instance at the exit. `early` watches it until ACTIVE.

    Raises:
        FluenceError: as `Session.running`.
    """
    deploy = Deploy(bench.asker, spec.kind)
    view = bench.asker.session.with_options(on_reply=deploy.note)
    bench.asker.account.add(str(spec.name))
    watch = asyncio.ensure_future(_after_post(deploy, early))
    try:
        async with view.running(spec, until=Until.ACTIVE, timeout=PROVISIONING) as instance:
            await _settled(watch, deploy)
            deploy.id = instance.id  # the reply to the POST may have been lost
            bench.asker.account.add(instance.id)
            yield deploy, instance
    except NO_RESULT:
        await _settled(watch, deploy)
        raise
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError, *NO_RESULT, LookupError, TypeError, ValueError):
            await watch


async def _after_post(deploy: Deploy, early: Callable[[Deploy], Awaitable[None]]) -> None:
    await deploy.created.wait()
    await early(deploy)


async def _settled(watch: asyncio.Future[None], deploy: Deploy) -> None:
    if deploy.created.is_set():
        with suppress(*NO_RESULT, LookupError, TypeError, ValueError, AttributeError):
            await asyncio.shield(watch)


async def balance(asker: Asker) -> Decimal | None:
    """Return the account's balance; None if it cannot be read."""
    try:
        rows = await asker.fetch("/v2/users/balances")
        return sum((Decimal(str(row["balance"])) for row in rows), Decimal(0))
    except (*NO_RESULT, LookupError, TypeError, ArithmeticError):
        return None
