"""Containers: the shared verbs, and updates, logs and events, which only containers have.

Each method is one call. `tail` follows logs over time, and `lifecycle` waits for updates.
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
        """Replace the container's whole configuration. The service accepts now and applies a little later.

        `session.update_and_wait` waits until the service has applied the update. Fields missing from
        `update` are removed, so start from `ContainerUpdate.from_container`.

        Raises:
            SpecError: the service would refuse the update; nothing was sent.
            UpdateInProgressError: the service is still applying an earlier update.
            NotActiveError: the container is not ACTIVE.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        await self._endpoints.update(id, update)

    async def logs(self, id: str, *, last: int | None = None) -> builtins.list[LogLine]:
        """Return the container's last `last` log lines, oldest first; without `last`, all stored lines.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.logs(id, last=last)

    async def events(self, id: str, *, last: int | None = None) -> builtins.list[Event]:
        """Return the last `last` cluster events about the container, ordered by object, not by time.

        Raises:
            ConfigError: `last` is below 1, or `id` is not an id.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        return await self._endpoints.events(id, last=last)
