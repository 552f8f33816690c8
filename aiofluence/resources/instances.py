"""The verbs that all three kinds share: deploy, list, get, terminate.

A PUT or DELETE whose outcome is unclear is settled by looking, never by sending it blindly again.
"""

from __future__ import annotations

import asyncio
import builtins
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs

from ..convert import payload, structure
from ..errors import (
    ConfigError,
    FluenceError,
    NoReplyError,
    NotActiveError,
    NotFoundError,
    ServerError,
    UpdateInProgressError,
)
from ..models.instances import Instance, InstanceRef, Referable, Summary
from ..models.specs import Spec
from ..models.table import Table
from ..models.values import Kind, Status
from ..owner import loop_time
from ..protocol import Answer, Call, Json, Lane, Replay, Reply, decode_rows, safe_id
from ..retry import is_refusal
from ..transport import Transport

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
            deploy=Call("POST", path, replay=Replay.NEVER, lane=Lane.DEPLOY),
            list=Call("GET", path, replay=Replay.ALWAYS),
            get=Call("GET", one, replay=Replay.ALWAYS),
            put=Call("PUT", one, replay=Replay.LOOK),
            terminate=Call("DELETE", one, replay=Replay.LOOK, lane=Lane.TERMINATE),
        )


@attrs.frozen
class Rows:
    """A list as it came: iterate for (id, status, row). What is no row of an instance is left out.

    Attributes:
        size: bytes of the answer.
    """

    size: int
    _call: Call
    _reply: Reply
    _status_field: str

    def __iter__(self) -> Iterator[tuple[str, str, Json]]:
        """Decodes as it goes.

        Raises:
            DecodeError: the body is not an array of JSON.
        """
        for row in decode_rows(self._call, self._reply):
            if type(row) is dict:
                id, status = row.get("id"), row.get(self._status_field)
                if type(id) is str and type(status) is str:
                    yield id, status, row


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
        return await self.post_unless(None, spec)

    async def post_unless(self, given_up: Callable[[], bool] | None, spec: SpecT) -> InstanceRef:
        """`post`, unless it was given up before its turn at the gate came.

        Raises:
            NotSentError: it was.
            FluenceError: as `post`.
        """
        self._check_kind(spec)
        call = attrs.evolve(self.calls.deploy.to(body=payload(spec)), unless=given_up)
        reply = structure(await self._transport.call(call), _Deployed)
        return InstanceRef(self.kind, safe_id(reply.instance_id), spec.name)

    async def list(self) -> Table[SummaryT]:
        """Every instance of this kind the account ever had, ended and failed ones included.

        Raises:
            FluenceError: as in `aiofluence.errors`.
        """
        rows = await self.look_at_all()
        return Table(rows, at=self._transport.clock.at(asyncio.get_running_loop().time()))

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

        async def gone() -> bool:
            try:
                return (await self.look_at(id)).status.final
            except NotFoundError:
                return True

        await self._settle(self.calls.terminate.to(id), gone)

    async def look_at(self, id: str, *, lane: Lane = Lane.AWAITED, deadline: float | None = None) -> DetailT:
        """`get`, on a lane of the gate and until a loop time of the caller's choice.

        Raises:
            FluenceError: as `get`.
        """
        return self._detail(await self.look_at_answer(id, lane=lane, deadline=deadline))

    async def look_at_all(
        self, *, lane: Lane = Lane.AWAITED, deadline: float | None = None
    ) -> builtins.list[SummaryT]:
        """`list`, on a lane of the gate and until a loop time of the caller's choice.

        Raises:
            FluenceError: as `list`.
        """
        call = self.calls.list.to(lane=lane)
        return self._summaries(await self._transport.call(call, deadline=deadline))

    async def look_for(self, name: str, *, lane: Lane = Lane.AWAITED) -> builtins.list[SummaryT]:
        """Those of `list` that have this name: for whoever must know, whatever the others may look like.

        Raises:
            FluenceError: as `list`.
        """
        call = self.calls.list.to(lane=lane)
        rows = (await self._transport.call(call)).value
        if isinstance(rows, builtins.list):
            # An account's list is as old as the account: a row that fits no model is no reason to pay twice.
            rows = [row for row in rows if not _has_another_name(row, name)]
        return self._summaries(Answer(call, rows))

    async def look_at_rows(self, *, lane: Lane = Lane.POLL, deadline: float | None = None) -> Rows:
        """`list`, as raw rows that are decoded one by one: for whoever looks often and wants little of it.

        Raises:
            FluenceError: as `list`; a body that does not fit, only when its rows are read.
        """
        call = self.calls.list.to(lane=lane)
        reply = await self._transport.exchange(call, deadline=deadline)
        return Rows(len(reply.body), call, reply, self._status_field)

    def summary_of(self, row: Json) -> SummaryT:
        """A raw row of `look_at_rows` as `list` would give it.

        Raises:
            DecodeError: it does not fit.
        """
        return self._summaries(Answer(self.calls.list, [row]))[0]

    async def look_at_answer(
        self, id: str, *, lane: Lane = Lane.AWAITED, deadline: float | None = None
    ) -> Answer:
        """`look_at` as it came; `detail_of` and `status_of` read it.

        Raises:
            FluenceError: as `get`.
        """
        return await self._transport.call(self.calls.get.to(id, lane=lane), deadline=deadline)

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

    @abstractmethod
    def _summaries(self, answer: Answer) -> builtins.list[SummaryT]: ...

    def _check_kind(self, spec: SpecT) -> None:
        if spec.kind is not self.kind:
            raise ConfigError(f"{type(spec).__name__} is for {spec.kind}, and this deploys {self.kind}")

    async def _settle(self, call: Call, done: Callable[[], Awaitable[bool]]) -> None:
        """Make a PUT or DELETE; when its outcome is unclear, look whether it is `done` before sending again.

        Sending it blindly again would turn a change that was applied into a 400 for the caller.
        """
        unclear: FluenceError | None = None
        retry = self._transport.retry
        waits = retry.waits()
        attempts = refusals = 0
        patience = loop_time() + _PATIENCE
        while unclear is None or asyncio.get_running_loop().time() < patience:
            attempts += 1
            try:
                await self._transport.call(call)
                return
            except (NoReplyError, ServerError) as error:
                unclear = error
                if is_refusal(error):  # probably refused at the door, so it costs patience, not an attempt
                    attempts -= 1
                    refusals += 1
            except UpdateInProgressError:
                # Probably our own, unanswered attempt: it will show whether it is. Otherwise, an answer.
                if unclear is None:
                    raise
                attempts -= 1
            except NotActiveError:
                # Perhaps for what our own, unanswered attempt has done. Otherwise, an answer.
                if unclear is None:
                    raise
            if await done():
                return
            if attempts >= retry.attempts or refusals >= retry.max_refusals:
                break
            await asyncio.sleep(next(waits))
        assert unclear is not None
        raise unclear


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


def _has_another_name(row: Json, name: str) -> bool:
    return type(row) is dict and type(row.get("name")) is str and row["name"] != name
