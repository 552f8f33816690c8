"""The raw endpoints of one kind: one request each, with the caller's priority and deadline.

`polling`, `lifecycle` and `tail` use them. The public verbs in `instances` build on them as well: `deploy`
needs the exactly-once protocol, which needs these endpoints.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import attrs

from ..background import loop_time
from ..display.table import Table
from ..errors import (
    ConfigError,
    FluenceError,
    NotActiveError,
    NotFoundError,
    ReplyError,
    UpdateInProgressError,
)
from ..http.codec import payload, structure
from ..http.messages import Answer, Call, Json, Priority
from ..http.retry import is_certain, is_refusal
from ..http.transport import Transport
from ..models.instances import InstanceRef
from ..models.logs import Event, LogLine
from ..models.specs import Spec
from ..models.updates import ContainerUpdate
from ..models.values import Kind, Status
from .kinds import EVENTS, KINDS, LOGS, KindOnWire
from .listing import Rows
from .rows import read_table, warn_once

_PATIENCE: Final = 300.0
"""Seconds to poll whether an update in progress is the session's own."""
_ROLL_OUT: Final = 60.0
"""Seconds during which an update with a lost reply may be in progress without showing. A roll-out pulls an
image, and the detail shows the new configuration only afterwards (contract 4.3)."""


@attrs.frozen
class _Deployed:
    instance_id: str


class Endpoints:
    """The endpoints of one kind, over the transport of one session.

    Attributes:
        kind: kind of the instances.
        transport: transport of the session.
    """

    def __init__(self, transport: Transport, kind: Kind) -> None:
        self.kind: Final = kind
        self.transport: Final = transport
        self._wire: Final[KindOnWire] = KINDS[kind]
        self._missing_kind: Final = kind if self._wire.omits_kind else None

    async def post(self, spec: Spec, cancelled_when: Callable[[], bool] | None = None) -> InstanceRef:
        """Send one POST. `cancelled_when` is called just before; True drops the request.

        Raises:
            ConfigError: the spec is for another kind; nothing was sent.
            NotSentError: the request was dropped, or could not be sent.
            NoReplyError: no reply came, so the instance may exist, and be billing.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        self.check_kind(spec)
        self.warn_about(spec)
        call = attrs.evolve(self._wire.calls.deploy.to(body=payload(spec)), cancelled_when=cancelled_when)
        reply = structure(await self.transport.call(call), _Deployed)
        return InstanceRef(self.kind, reply.instance_id, spec.name)

    def check_kind(self, spec: Spec) -> None:
        """Check that the spec is for this kind."""
        kind = getattr(spec, "kind", None)
        if kind is not self.kind:
            use = f"for {kind}" if kind else "no spec"
            raise ConfigError(f"{type(spec).__name__} is {use}, and this deploys {self.kind}")

    def warn_about(self, spec: Spec | ContainerUpdate) -> None:
        """Log the doubts about a spec or an update, each once per session."""
        for doubt in spec.doubts(self.transport.own_images):
            what, _, why = doubt.partition(": ")
            warn_once(self.transport, what, why)

    async def table(
        self, *, priority: Priority = Priority.AWAITED, deadline: float | None = None
    ) -> Table[Any]:
        """Request the LIST, as a table."""
        answer = await self.transport.call(self._wire.calls.list.to(priority=priority), deadline=deadline)
        now = self.transport.clock.now
        return read_table(self.transport, answer, self._wire.summary, under=self._missing_kind, at=now)

    async def rows(self, *, priority: Priority = Priority.POLL, deadline: float | None = None) -> Rows:
        """Request the LIST, as raw rows, for callers that poll often and need few of them.

        Raises:
            FluenceError: as `table`. A body that does not fit raises only when its rows are read.
        """
        call = self._wire.calls.list.to(priority=priority)
        reply = await self.transport.exchange(call, deadline=deadline)
        return Rows(len(reply.body), call, reply, self._wire.status_field)

    def get(
        self, id: str, *, priority: Priority = Priority.AWAITED, deadline: float | None = None
    ) -> Coroutine[Any, Any, Answer]:
        """Request one detail; `detail_of` and `status_of` read it."""
        # Not a coroutine function, to save one per call: polls are most of a session's requests.
        return self.transport.call(self._wire.calls.get.to(id, priority=priority), deadline=deadline)

    async def put(
        self, id: str, body: bytes, is_done: Callable[[], Awaitable[bool]], *, hold: float = 0.0
    ) -> None:
        """Change an instance; see `_settle`."""
        call = self._wire.calls.put.to(id, body=body)
        del body  # it has secrets, which a traceback with locals would show
        await self._settle(call, is_done, hold=hold)

    async def terminate(self, id: str) -> None:
        """End an ACTIVE instance."""

        async def is_over() -> bool:
            status = self.status_of(await self.get(id))
            return status is not None and status.final

        await self._settle(self._wire.calls.terminate.to(id), is_over)

    # --- containers only ------------------------------------------------------------------------------------

    async def update(self, id: str, update: ContainerUpdate) -> None:
        """Replace the configuration of a container; see `Containers.update`."""

        async def is_shown() -> bool:
            return update.is_shown_by(self.detail_of(await self.get(id)))

        self.warn_about(update)
        await self.put(id, payload(update), is_shown, hold=_ROLL_OUT * self.transport.pace)

    async def logs(
        self, id: str, *, last: int | None = None, priority: Priority = Priority.AWAITED
    ) -> list[LogLine]:
        """Request the newest `last` log lines; see `Containers.logs`."""
        return [LogLine.parse(raw) for raw in await self._lines(LOGS, id, last, priority)]

    async def events(
        self, id: str, *, last: int | None = None, priority: Priority = Priority.AWAITED
    ) -> list[Event]:
        """Request the newest `last` events; see `Containers.events`."""
        return [Event.parse(raw) for raw in await self._lines(EVENTS, id, last, priority)]

    async def _lines(self, call: Call, id: str, last: int | None, priority: Priority) -> list[str]:
        """Request logs or events as raw texts. One odd part costs none of the others."""
        if last is not None and last < 1:
            raise ConfigError(f"last must be at least 1, not {last}")
        answer = await self.transport.call(call.to(id, priority=priority, query={"last": last}))
        if answer.value is None:  # Go's JSON encoder writes null for an empty list
            return []
        if type(answer.value) is not list:
            return structure(answer, list[str])  # a DecodeError with the type of the value
        return [row if type(row) is str else json.dumps(row, ensure_ascii=False) for row in answer.value]

    # --- reading replies ------------------------------------------------------------------------------------

    def summary_of(self, row: Json) -> Any:
        """Turn a raw row into its model."""
        return structure(Answer(self._wire.calls.list, row), self._wire.summary, under=self._missing_kind)

    def detail_of(self, answer: Answer) -> Any:
        """Turn the reply to `get` into its model."""
        return structure(answer, self._wire.detail, under=self._missing_kind)

    def status_of(self, answer: Answer) -> Status | None:
        """Read the status in the reply to `get`, even if other fields do not fit; None without a status."""
        text = answer.value.get(self._wire.status_field) if type(answer.value) is dict else None
        return Status(text) if type(text) is str else None

    # --- changes with an unclear outcome --------------------------------------------------------------------

    async def _settle(self, call: Call, is_done: Callable[[], Awaitable[bool]], *, hold: float = 0.0) -> None:
        """Send a PUT or DELETE. After an unclear outcome, poll with `is_done` before sending it again.

        The service answers a second, superfluous request with 400, although the change was applied.

        Args:
            call: the PUT or DELETE.
            is_done: polls for the change and returns True if it shows.
            hold: seconds after an unclear attempt during which a change that was applied may not show yet.
        """
        unclear: FluenceError | None = None
        retry = self.transport.retry
        waits = retry.waits()
        patience = loop_time() + _PATIENCE
        loop = asyncio.get_running_loop()
        attempts = refusals = 0
        while unclear is None or loop.time() < patience:
            attempts += 1
            try:
                await self.transport.call(call)
                return
            except FluenceError as error:
                is_redirect = isinstance(error, ReplyError) and 300 <= error.status < 400
                if not (is_certain(error) or is_redirect):
                    unclear = error
                    if is_refusal(error):  # a gateway's rate limit: counts as a refusal, not as an attempt
                        attempts -= 1
                        refusals += 1
                elif unclear is None:
                    raise
                elif isinstance(error, UpdateInProgressError):
                    attempts -= 1  # probably this session's own unanswered attempt, which a poll will show
                elif not isinstance(error, NotActiveError | NotFoundError):
                    raise
            held = loop.time() + hold
            while True:
                if await self._shows(is_done):
                    return
                pause = next(waits)
                if loop.time() + pause >= held:
                    break
                await asyncio.sleep(pause)
            if attempts >= retry.attempts or refusals >= retry.max_refusals:
                break
            await asyncio.sleep(pause)
        assert unclear is not None
        raise unclear

    async def _shows(self, is_done: Callable[[], Awaitable[bool]]) -> bool:
        """Return True if a poll shows that a change is done. A failed poll shows nothing."""
        try:
            return await is_done()
        except FluenceError:
            return False
