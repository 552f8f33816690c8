"""The verbs that all three kinds share: deploy, list, get, terminate.

A PUT or DELETE whose outcome is unclear is settled by looking, never by sending it blindly again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

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
from ..http.messages import Answer, Call, Json, Priority, Retryable
from ..http.retry import is_certain, is_refusal
from ..http.transport import Transport
from ..models.instances import Instance, InstanceRef, Referable, Summary
from ..models.specs import Spec
from ..models.updates import ContainerUpdate
from ..models.values import Kind, Status
from .listing import Rows
from .rows import read_table, warn_once

_PATIENCE: Final = 300.0
"""Seconds to wait for an update in progress to show whether it is ours."""

SpecT = TypeVar("SpecT", bound=Spec)
SummaryT = TypeVar("SummaryT", bound=Summary)
DetailT = TypeVar("DetailT", bound=Instance)


@attrs.frozen
class InstanceCalls:
    """The endpoints that every kind has, as data."""

    deploy: Call
    list: Call
    get: Call
    put: Call
    terminate: Call

    @classmethod
    def under(cls, path: str) -> InstanceCalls:
        """The calls below `path`, which is written as in the contract: containers have a trailing slash."""
        one = f"{path.rstrip('/')}/{{id}}"
        return cls(
            deploy=Call("POST", path, retryable=Retryable.NEVER, priority=Priority.DEPLOY),
            list=Call("GET", path, retryable=Retryable.ALWAYS),
            get=Call("GET", one, retryable=Retryable.ALWAYS),
            put=Call("PUT", one, retryable=Retryable.LOOK),
            terminate=Call("DELETE", one, retryable=Retryable.LOOK, priority=Priority.TERMINATE),
        )


class ExactlyOnce(Protocol):
    """Deploys through a resource so that no fault makes two instances: `lifecycle.deploy`."""

    async def __call__(self, resource: Instances[Any, Any, Any], spec: Any) -> InstanceRef: ...


@attrs.frozen
class _Deployed:
    instance_id: str


class Instances(ABC, Generic[SpecT, SummaryT, DetailT]):
    """The instances of one kind."""

    kind: Kind
    calls: InstanceCalls
    _status_field = "status"
    _summary: type[SummaryT]
    _under: Kind | None = None
    """Kind that rows and details of machines lack, and that is written into them."""

    def __init__(self, transport: Transport, exactly_once: ExactlyOnce) -> None:
        self._transport = transport
        self._exactly_once: Final = exactly_once

    async def deploy(self, spec: SpecT) -> InstanceRef:
        """Deploy one instance, exactly once, and return as soon as it has an id; it is not ACTIVE yet.

        From here on it costs money. Cancelled before the id is known, the session ends the instance.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            RefusedError: the service did refuse it (balance, plan, image).
            NotSentError: the request never left, in all attempts.
            UncertainDeployError: whether it was deployed could not be found out.
            FluenceError: any other refusal, as in `aiofluence.errors`.
        """
        self._check_kind(spec)
        return await self._exactly_once(self, spec)

    async def post(self, spec: SpecT) -> InstanceRef:
        """The bare endpoint: one POST, without the protocol that makes `deploy` safe.

        Raises:
            SpecError: the service would refuse the spec; nothing was sent.
            NoReplyError: no answer, so the instance may exist, and bill.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self.post_if_wanted(None, spec)

    async def post_if_wanted(self, is_cancelled: Callable[[], bool] | None, spec: SpecT) -> InstanceRef:
        """`post`, unless it was given up before its turn at the gate came.

        Raises:
            NotSentError: it was.
            FluenceError: as `post`.
        """
        self._check_kind(spec)
        self.warn_about(spec)
        call = attrs.evolve(self.calls.deploy.to(body=payload(spec)), cancelled_when=is_cancelled)
        reply = structure(await self._transport.call(call), _Deployed)
        return InstanceRef(self.kind, reply.instance_id, spec.name)

    def warn_about(self, spec: SpecT | ContainerUpdate) -> None:
        """Log the doubts about a spec or an update, each once per session."""
        for doubt in spec.doubts(self._transport.own_images):
            what, _, why = doubt.partition(": ")
            warn_once(self._transport, what, why)

    async def list(self) -> Table[SummaryT]:
        """Every instance of this kind the account ever had, ended and failed ones included.

        Rows that do not fit the contract are missing; the table's `left_out` has an error for each.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        return await self.look_at_all()

    async def get(self, id: str) -> DetailT:
        """One instance in full.

        Raises:
            NotFoundError: the account has no such instance.
            ConfigError: `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self.look_at(id)

    async def terminate(self, id: str) -> None:
        """End an ACTIVE instance; the service refunds what is reserved.

        Raises:
            NotActiveError: it is not ACTIVE (yet, or any more).
            NotFoundError: the account has no such instance.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """

        async def over() -> bool:
            answer = await self.look_at_answer(id)
            status = self.status_of(answer)
            return status is not None and status.final

        await self._settle(self.calls.terminate.to(id), over)

    async def look_at(
        self, id: str, *, priority: Priority = Priority.AWAITED, deadline: float | None = None
    ) -> DetailT:
        """`get`, on a lane of the gate and until a loop time of the caller's choice.

        Raises:
            FluenceError: as `get`.
        """
        return self._detail(await self.look_at_answer(id, priority=priority, deadline=deadline))

    async def look_at_all(
        self, *, priority: Priority = Priority.AWAITED, deadline: float | None = None
    ) -> Table[SummaryT]:
        """`list`, on a lane of the gate and until a loop time of the caller's choice.

        Raises:
            FluenceError: as `list`.
        """
        answer = await self._transport.call(self.calls.list.to(priority=priority), deadline=deadline)
        now = self._transport.clock.at(asyncio.get_running_loop().time())
        return read_table(self._transport, answer, self._summary, under=self._under, at=now)

    async def look_at_rows(
        self, *, priority: Priority = Priority.POLL, deadline: float | None = None
    ) -> Rows:
        """`list` as raw rows, for callers that poll often and need few of the rows.

        Raises:
            FluenceError: as `list`; a body that does not fit, only when its rows are read.
        """
        call = self.calls.list.to(priority=priority)
        reply = await self._transport.exchange(call, deadline=deadline)
        return Rows(len(reply.body), call, reply, self._status_field)

    def summary_of(self, row: Json) -> SummaryT:
        """A raw row of `look_at_rows` as `list` would give it.

        Raises:
            DecodeError: it does not fit.
        """
        return structure(Answer(self.calls.list, row), self._summary, under=self._under)

    async def look_at_answer(
        self, id: str, *, priority: Priority = Priority.AWAITED, deadline: float | None = None
    ) -> Answer:
        """`look_at` as it came; `detail_of` and `status_of` read it.

        Raises:
            FluenceError: as `get`.
        """
        return await self._transport.call(self.calls.get.to(id, priority=priority), deadline=deadline)

    def detail_of(self, answer: Answer) -> DetailT:
        """The answer of `look_at_answer` as `get` would give it.

        Raises:
            DecodeError: it does not fit.
        """
        return self._detail(answer)

    def status_of(self, answer: Answer) -> Status | None:
        """What such an answer says of the status, whatever else in it may not fit."""
        text = answer.value.get(self._status_field) if type(answer.value) is dict else None
        return Status(text) if type(text) is str else None

    @abstractmethod
    def _detail(self, answer: Answer) -> DetailT: ...

    def _check_kind(self, spec: SpecT) -> None:
        if spec.kind is not self.kind:
            raise ConfigError(f"{type(spec).__name__} is for {spec.kind}, and this deploys {self.kind}")

    async def _settle(self, call: Call, is_done: Callable[[], Awaitable[bool]], *, hold: float = 0.0) -> None:
        """Make a PUT or DELETE; after an unclear outcome, poll whether it `is_done` before sending it again.

        Sending it blindly again would turn a change that was applied into a 400 for the caller.

        Args:
            call: the PUT or DELETE.
            is_done: polls whether the change shows.
            hold: seconds after an unclear attempt during which the change may still come to show.
        """
        unclear: FluenceError | None = None
        retry = self._transport.retry
        waits = retry.waits()
        patience = loop_time() + _PATIENCE
        loop = asyncio.get_running_loop()
        attempts = refusals = 0
        while unclear is None or loop.time() < patience:
            attempts += 1
            try:
                await self._transport.call(call)
                return
            except FluenceError as error:
                is_redirect = isinstance(error, ReplyError) and 300 <= error.status < 400
                if not (is_certain(error) or is_redirect):
                    unclear = error
                    if is_refusal(error):  # a gateway's rate limit: costs patience, not an attempt
                        attempts -= 1
                        refusals += 1
                elif unclear is None:
                    raise
                elif isinstance(error, UpdateInProgressError):
                    attempts -= 1  # probably our own unanswered attempt: a poll will show it
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
        """Whether a poll shows that a change is done; a poll that fails shows nothing."""
        try:
            return await is_done()
        except FluenceError:
            return False


def ref_of(instance: Referable) -> InstanceRef:
    """What names an instance, whatever object stands for it.

    Raises:
        ConfigError: nothing does, such as an id alone.
    """
    ref = getattr(instance, "ref", None)
    if not isinstance(ref, InstanceRef):
        wanted = (
            "an InstanceRef or an instance is wanted here, and an id alone goes to .containers and the like"
        )
        raise ConfigError(f"{wanted}: {str(instance)[:64]!r}")
    return ref
