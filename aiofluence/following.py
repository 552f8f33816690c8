"""The verbs for what a container writes and what the cluster says of it, as it comes.

A base class of `Session`, and no use without it; the work is done in `tail`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from .errors import ConfigError
from .models.instances import Referable
from .resources.containers import Containers
from .resources.instances import ref_of
from .runtime import House
from .tail.events import EventTail
from .tail.iterator import Tail
from .tail.logs import LogTail
from .tail.merged import MergedTail

TailT = TypeVar("TailT", bound=Tail[Any])


class FollowsOutput:
    """What a session does with output that goes on."""

    containers: Containers
    _house: House

    def tail_logs(self, container: Referable, *, last: int = 100) -> LogTail:
        """`async for line in fluence.tail_logs(container)`: every line once and in order.

        Where a line may be missing, because the service had dropped it before it could be fetched, a
        `LogGap` stands in its place. It survives errors, restarts and updates, looks every 1-15 seconds,
        and ends when the container has ended or failed and its last lines are out.

        Args:
            container: a ref, or any container object; it may still be INITIALIZED.
            last: how many of the lines that are there already come first, of each pod.

        Raises:
            ConfigError: this is no container, or `last` is below 1.
        """
        house, ref = self._house, ref_of(container)
        return self._own(LogTail(self.containers, ref, _at_least_one(last), house.poll.pace, house.evidence))

    def tail_events(self, container: Referable) -> EventTail:
        """`async for event in fluence.tail_events(container)`: those that are there, then each new one.

        New ones come in the order in which the service lists them, which is by object and not by time.

        Args:
            container: a ref, or any container object; it may still be INITIALIZED.

        Raises:
            ConfigError: this is no container.
        """
        house, ref = self._house, ref_of(container)
        return self._own(EventTail(self.containers, ref, house.poll.pace, house.evidence))

    def tail_all(self, containers: Iterable[Referable], *, last: int = 100) -> MergedTail:
        """`async for tagged in fluence.tail_all(containers)`: the logs of all of them, `.ref` and `.line`.

        In the order of arrival; all of it stays within the session's rate, so that the more containers are
        followed, the more time lies between two looks at one. It ends when all of them have ended.

        Args:
            containers: refs, or any container objects.
            last: how many of the lines that are there already come first, of each pod.

        Raises:
            ConfigError: one of these is no container, or `last` is below 1.
        """
        refs = [ref_of(container) for container in containers]
        house = self._house
        last, pace = _at_least_one(last), house.poll.pace
        return self._own(MergedTail(self.containers, refs, last, pace, house.evidence, house.home))

    def _own(self, tail: TailT) -> TailT:
        tail.owner = self._house.home.owner
        return tail


def _at_least_one(last: int) -> int:
    if last < 1:
        raise ConfigError(f"last must be at least 1, not {last}")
    return last
