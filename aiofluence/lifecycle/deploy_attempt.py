"""One deploy under way: its name, and the POSTs whose outcome is unclear.

Data only; `deploy` fills it in and draws the conclusions.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import attrs

from ..models.instances import InstanceRef
from ..resources.instances import Instances
from .journal import Intent


@attrs.define(eq=False)
class DeployAttempt:
    """What tells our instance from others, and what one deploy has come to so far.

    Attributes:
        began: loop time; no instance of ours is older.
        adopt: any live instance of that name will do.
        since: the service's time instead of `began`, when an earlier run began it.
        unclear: attempts that may have made an instance that we do not know.
        doubtful: there was an unclear attempt.
        candidates: what the last list showed of that name.
        ref: ours.
        last_error: why the last attempt is unclear.
        given_up: its caller has been cancelled.
    """

    resource: Instances[Any, Any, Any]
    name: str
    began: float
    adopt: bool
    since: datetime | None = None
    unclear: list[Intent] = attrs.field(factory=list)
    doubtful: bool = False
    candidates: tuple[InstanceRef, ...] = ()
    ref: InstanceRef | None = None
    last_error: Exception | None = None
    given_up: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def id(self) -> str | None:
        """Of ours."""
        return None if self.ref is None else self.ref.id
