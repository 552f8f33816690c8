"""Ways to continue after an error of a wait: times, money spent, `resume`, `terminate`.

Adds them to errors that `wait` raises. Raises and waits for nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import attrs

from ..background import loop_time
from ..errors import ConfigError, LifecycleError
from ..http.transport import ServerClock
from ..models.instances import Instance
from ..models.spending import estimate_spend
from .custody import Custodian

Resume: TypeAlias = Callable[[float | None], Awaitable[Instance | None]]
"""A function that continues a wait, for that many seconds."""


class Recovery:
    """Equips the errors of one session's waits."""

    def __init__(self, clock: ServerClock, custodian: Custodian) -> None:
        self._clock = clock
        self._custodian = custodian

    @contextmanager
    def offered(self, resume: Resume) -> Iterator[None]:
        """Add times, the money spent, `resume` and `terminate` to a LifecycleError that leaves the block.

        Raises:
            LifecycleError: as the block.
        """
        began = loop_time()
        try:
            yield
        except LifecycleError as error:
            error.timeline = tuple(
                attrs.evolve(sighting, at=self._clock.at(began + sighting.after))
                for sighting in error.timeline
            )
            now = self._clock.at(asyncio.get_running_loop().time())
            error.estimated_spend = estimate_spend(error.last_seen, now)
            if error.ref is not None:
                error._resume = resume
                error._terminate = partial(self._custodian.see_gone, error.ref)
            raise


async def being_ended(_: float | None) -> Instance | None:
    """Refuse to resume a wait whose instance the custodian ends.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("the session is ending this instance; with on_failure='keep' a wait can be resumed")
