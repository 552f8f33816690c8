"""Containers: the shared verbs, and update, logs and events, which only containers have.

One answer per call; following a log over time is `tail`'s, waiting for an update `lifecycle`'s.
"""

from __future__ import annotations

import builtins
import json
from typing import Final

from ..errors import ConfigError
from ..http.codec import payload, structure
from ..http.messages import Answer, Call, MiB, Priority, Retryable
from ..models.instances import Container, ContainerSummary
from ..models.logs import Event, LogLine
from ..models.specs import ContainerSpec
from ..models.updates import ContainerUpdate
from ..models.values import Kind
from .instances import InstanceCalls, Instances

CALLS: Final = InstanceCalls.under("/gpu/instances/")
LOGS: Final = Call(
    "GET", "/gpu/instances/{id}/logs", retryable=Retryable.ALWAYS, max_body=64 * MiB, is_text=True
)
EVENTS: Final = Call("GET", "/gpu/instances/{id}/events", retryable=Retryable.ALWAYS, is_text=True)

_ROLL_OUT: Final = 60.0
"""Seconds for which an update whose answer was lost may be in progress without showing: a roll-out pulls an
image, and the detail shows the new configuration once it is done (contract 4.3)."""


class Containers(Instances[ContainerSpec, ContainerSummary, Container]):
    """The account's containers."""

    kind = Kind.CONTAINER
    calls = CALLS
    _status_field = "instance_status"
    _summary = ContainerSummary

    async def update(self, id: str, update: ContainerUpdate) -> None:
        """Replace the container's whole configuration; accepted now, applied a little later.

        `session.update_and_wait` waits until it is. What `update` leaves out is gone, so start from
        `ContainerUpdate.from_container`.

        Raises:
            SpecError: the service would refuse the update; nothing was sent.
            UpdateInProgressError: an earlier update is still being applied.
            NotActiveError: the container is not ACTIVE.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """

        async def shown() -> bool:
            return update.is_shown_by(await self.look_at(id))

        self.warn_about(update)
        hold = _ROLL_OUT * self._transport.pace
        await self._settle(self.calls.put.to(id, body=payload(update)), shown, hold=hold)

    async def logs(
        self, id: str, *, last: int | None = None, priority: Priority = Priority.AWAITED
    ) -> builtins.list[LogLine]:
        """The last `last` lines the container wrote, oldest first; without `last`, all that are kept.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return [LogLine.parse(raw) for raw in await self._lines(LOGS, id, last, priority)]

    async def events(
        self, id: str, *, last: int | None = None, priority: Priority = Priority.AWAITED
    ) -> builtins.list[Event]:
        """The last `last` events of the cluster about the container, ordered by object, not by time.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return [Event.parse(raw) for raw in await self._lines(EVENTS, id, last, priority)]

    async def _lines(self, call: Call, id: str, last: int | None, priority: Priority) -> builtins.list[str]:
        """The texts of a reply. One odd part costs none of the others: it is rendered as text."""
        answer = await self._transport.call(call.to(id, priority=priority, query=_newest(last)))
        if answer.value is None:  # Go's JSON encoder writes null for an empty list
            return []
        if type(answer.value) is not builtins.list:
            return structure(answer, builtins.list[str])  # a DecodeError that says what it is
        return [row if type(row) is str else json.dumps(row, ensure_ascii=False) for row in answer.value]

    def _detail(self, answer: Answer) -> Container:
        return structure(answer, Container)


def _newest(last: int | None) -> dict[str, object]:
    if last is not None and last < 1:
        raise ConfigError(f"last must be at least 1, not {last}")
    return {"last": last}
