"""One deploy under way: its name, the POSTs whose outcome is unclear, and the rows that they may have made.

Judges rows; `deploy` sends, polls and draws the conclusions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import attrs

from ..errors import DecodeError
from ..http.messages import is_safe_id
from ..models.instances import InstanceRef, Summary
from ..resources.endpoints import Endpoints
from .journal import DATE_SLACK, Intent
from .shared_list import NamedRows

_OLDER: Final = timedelta(days=1)
"""A row that is older than a deploy by more than this was there before, however wrong the clocks are."""


@attrs.define(eq=False)
class DeployAttempt:
    """State of one deploy: its unclear POSTs, and the facts that identify its instance among others.

    Attributes:
        began: loop time; no instance of ours is older.
        adopt: any live instance of that name will do.
        since: the service's time instead of `began`, once that is known: no instance of ours is older.
        ids: ids that an earlier run's own POSTs returned: they are ours whatever the clocks say.
        is_undated: an earlier run sent a POST at an unknown time, so that no row is surely its own.
        claims_undated: it was a run of an early version: a single row of the name is its own all the same.
        unclear: attempts that may have made an instance that we do not know.
        doubtful: there was an unclear attempt.
        candidates: what the last list showed of that name.
        ref: ours.
        last_error: why the last attempt is unclear.
        is_cancelled: its caller has been cancelled.
    """

    endpoints: Endpoints
    name: str
    began: float
    adopt: bool
    since: datetime | None = None
    ids: set[str] = attrs.field(factory=set)
    is_undated: bool = False
    claims_undated: bool = False
    unclear: list[Intent] = attrs.field(factory=list)
    doubtful: bool = False
    candidates: tuple[InstanceRef, ...] = ()
    ref: InstanceRef | None = None
    last_error: Exception | None = None
    is_cancelled: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def id(self) -> str | None:
        """Of ours."""
        return None if self.ref is None else self.ref.id

    def take_unclear(self, id: str, *, named: bool = False) -> Intent | None:
        """Take out the unclear POST that made the instance `id`: the one that names it, else the latest.

        Args:
            id: of the instance.
            named: take only one that names it.
        """
        fitting = [intent for intent in self.unclear if intent.id == id]
        if not (fitting or named):
            fitting = [intent for intent in reversed(self.unclear) if intent.id is None]
        intent = next(iter(fitting), None)
        if intent is not None:
            self.unclear.remove(intent)
        return intent

    def siblings(
        self,
        rows: NamedRows,
        since: datetime | None,
        *,
        is_ending: Callable[[InstanceRef], bool],
        is_elsewhere: Callable[[object], bool],
    ) -> tuple[list[Summary], list[InstanceRef]]:
        """Live instances of that name that are not another deploy's; notes the candidates.

        Args:
            rows: a LIST.
            since: the service's time before which nothing of this deploy was made; None if unknown.
            is_ending: whether the session ends an instance already.
            is_elsewhere: whether an id is another deploy's.

        Returns:
            Those that this deploy made, oldest first (with `adopt`, all of that name); and those that it may
            have made: they look older, but clocks differ, or their row does not fit the contract.
        """
        mine: list[Summary] = []
        undated: list[Summary] = []
        doubtful: list[InstanceRef] = []
        for raw in rows.named(self.name):
            try:
                row: Summary = self.endpoints.summary_of(raw)
            except DecodeError:
                if not is_elsewhere(id := raw.get("id")):
                    doubtful.append(InstanceRef(self.endpoints.kind, str(id), self.name))
                continue
            if row.status.final or is_ending(row.ref):
                continue
            if not is_safe_id(row.id):  # it can be neither awaited nor ended
                doubtful.append(row.ref)
            elif self.adopt or row.id == self.id or row.id in self.ids:
                mine.append(row)
            elif not is_elsewhere(row.id):
                if self.is_undated:
                    undated.append(row)
                elif since is None:
                    doubtful.append(row.ref)
                elif row.created_at >= since - DATE_SLACK:
                    mine.append(row)
                elif row.created_at >= since - _OLDER:
                    doubtful.append(row.ref)
        if len(undated) == 1 and self.claims_undated:
            mine += undated
        else:
            doubtful += [row.ref for row in undated]
        mine.sort(key=lambda row: (row.created_at, row.id))
        self.candidates = (*(row.ref for row in mine if row.id != self.id), *doubtful)
        return mine, doubtful
