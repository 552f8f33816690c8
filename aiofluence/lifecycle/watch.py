"""Watching instances until something is true of them. The one place that polls.

Each waiter has its own deadline; a look that fails is not a wait that failed. What is awaited, and
what a bad end means, is `wait`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from ..errors import (
    AuthError,
    ConfigError,
    FluenceError,
    InstanceEndedError,
    NotFoundError,
    Sighting,
    WaitTimeoutError,
)
from ..models.instances import Instance, InstanceRef
from ..models.values import Kind
from ..protocol import Lane
from ..resources.instances import Instances

MISSING_GRACE: Final = 60.0
"""Seconds for which a created id may still be unknown to the service's lists and details."""
LAST_LOOK: Final = 2.0
"""Seconds that a look may take beyond the deadline, so that one look always falls on it."""


@attrs.frozen
class Poll:
    """How often a waiting session looks.

    Attributes:
        interval: seconds between two looks at the same instance.
    """

    interval: float = 5.0

    def __attrs_post_init__(self) -> None:
        if not 0 < self.interval < float("inf"):
            raise ConfigError("Poll needs interval > 0")


@attrs.define
class Seen:
    """What one wait has seen so far; a wait in several stages keeps one through all of them."""

    ref: InstanceRef
    began: float = attrs.field(factory=lambda: asyncio.get_running_loop().time())
    last: Instance | None = None
    timeline: list[Sighting] = attrs.field(factory=list)
    last_error: FluenceError | None = None

    def note(self, instance: Instance, now: float) -> None:
        """Remember a look, and the status if it is a new one."""
        if not self.timeline or self.timeline[-1].status != instance.status:
            self.timeline.append(Sighting(now - self.began, instance.status))
        self.last = instance
        self.last_error = None


class Watch:
    """Looks at instances for everybody who waits."""

    def __init__(self, resources: Mapping[Kind, Instances[Any, Any, Any]], poll: Poll) -> None:
        self.resources: Final = resources
        self._poll = poll

    async def until(
        self, seen: Seen, reached: Callable[[Instance], bool], deadline: float | None, what: str
    ) -> Instance:
        """Look at `seen.ref` until `reached`, and give the instance as it then was.

        `reached` may raise to end the wait; it is given every look in order. An id that the service does
        not know yet is waited for during `MISSING_GRACE`.

        Raises:
            WaitTimeoutError: `deadline` (loop time) came first; there was one last look at it.
            InstanceEndedError: the service no longer knows the instance.
            AuthError: the key is not, or no longer, good.
        """
        loop = asyncio.get_running_loop()
        ref = seen.ref
        while True:
            now = loop.time()
            limit = None if deadline is None else max(deadline, now + LAST_LOOK)
            try:
                instance: Instance = await self.resources[ref.kind].look_at(
                    ref.id, lane=Lane.POLL, deadline=limit
                )
            except AuthError:
                raise
            except NotFoundError as error:
                seen.last_error = error
                if seen.last is not None or loop.time() - seen.began >= MISSING_GRACE:
                    raise InstanceEndedError(
                        f"{ref}: the service does not know it",
                        ref=ref,
                        last_seen=seen.last,
                        timeline=seen.timeline,
                    ) from None
            except FluenceError as error:
                seen.last_error = error
            else:
                seen.note(instance, loop.time())
                if reached(instance):
                    return instance
            if deadline is not None and now >= deadline:  # so one look fell on the deadline, or after it
                raise timed_out(seen, what)
            await self.pause(deadline)

    async def pause(self, deadline: float | None = None) -> None:
        """Sleep until the next look is due, or the deadline comes."""
        left = float("inf") if deadline is None else deadline - asyncio.get_running_loop().time()
        await asyncio.sleep(max(0.0, min(self._poll.interval, left)))


def timed_out(seen: Seen, what: str) -> WaitTimeoutError:
    """The error of a wait whose deadline came."""
    status = seen.last.status if seen.last is not None else "never seen"
    why = f"; the last look failed: {seen.last_error}" if seen.last_error is not None else ""
    error = WaitTimeoutError(
        f"{seen.ref} did not become {what} in time: {status}{why}",
        ref=seen.ref,
        last_seen=seen.last,
        timeline=seen.timeline,
    )
    error.last_error = seen.last_error
    return error
