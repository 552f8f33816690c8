"""Containers: the shared verbs, and update, logs and events, which only containers have.

One answer per call; following a log over time is `tail`'s, waiting for an update `lifecycle`'s.
"""

from __future__ import annotations

import builtins

from ..models.instances import Container, ContainerSummary
from ..models.logs import Event, LogLine
from ..models.specs import ContainerSpec
from ..models.updates import ContainerUpdate
from .instances import Instances


class Containers(Instances[ContainerSpec, ContainerSummary, Container]):
    """The account's containers."""

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
        await self._endpoints.update(id, update)

    async def logs(self, id: str, *, last: int | None = None) -> builtins.list[LogLine]:
        """The last `last` lines the container wrote, oldest first; without `last`, all that are kept.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.logs(id, last=last)

    async def events(self, id: str, *, last: int | None = None) -> builtins.list[Event]:
        """The last `last` events of the cluster about the container, ordered by object, not by time.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.events(id, last=last)
