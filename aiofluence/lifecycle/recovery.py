"""What an error of a wait brings along so that its reader can go on: when, how much, resume, terminate.

Adds to errors that `wait` raises; it raises and waits for nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Final, TypeAlias

import attrs

from ..errors import ConfigError, LifecycleError
from ..models.instances import Container, Instance, Machine, Summary
from ..models.money import ZERO, exact
from ..models.values import Status
from ..owner import loop_time
from ..transport import ServerClock
from .custody import Custodian

Resume: TypeAlias = Callable[[float | None], Awaitable[Instance | None]]
"""Goes on with a wait, for that many seconds."""

_HOUR: Final = timedelta(hours=1)


class Recovery:
    """Equips the errors of one session's waits."""

    def __init__(self, clock: ServerClock, custodian: Custodian) -> None:
        self._clock = clock
        self._custodian = custodian

    @contextmanager
    def offered(self, resume: Resume) -> Iterator[None]:
        """A LifecycleError that leaves the block has the service's times, the money spent, and the ways on.

        Raises:
            LifecycleError: what the block raises.
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
    """Stands where `resume` would, once the custodian has the instance.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("the session is ending this instance; with on_failure='keep' a wait can be resumed")


@exact()
def estimate_spend(seen: Instance | Summary | None, now: datetime | None) -> Decimal | None:
    """What an instance has cost, judged by the last look at it; None when that had no money in it.

    Rent is charged by clock hours, each as it begins, so the hours begun since that look are added.
    """
    if seen is not None and seen.status is Status.FAILED:
        return ZERO
    if not isinstance(seen, Container | Machine):
        return None
    spent, due = seen.billing.total_spendings, seen.billing.next_billing_period
    if seen.status.final or due is None or now is None or now < due:
        return spent
    return spent + seen.billing.hourly_usage * ((now - due) // _HOUR + 1)
