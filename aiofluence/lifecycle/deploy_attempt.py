"""A deploy attempt: its POSTs with an unclear outcome, and the rows that may be theirs.

It judges replies and rows. `deploy` sends, polls and draws the conclusions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

import attrs

from ..errors import DecodeError
from ..http.messages import is_safe_id
from ..models.instances import InstanceRef, Summary
from ..resources.endpoints import Endpoints
from .journal_entries import DATE_SLACK, LARGEST_ERROR, Intent
from .shared_list import NamedRows


@attrs.define(eq=False)
class DeployAttempt:
    """State of one deploy: its unclear POSTs, and the facts that identify its instance among others.

    Attributes:
        endpoints: endpoints of the instance's kind.
        name: name of the instance.
        began: loop time at which the deploy began. No instance of this deploy is older.
        adopt: any live instance of that name will do.
        since: the service's time at which the deploy began, more exact than `began`. None while unknown.
        ids: ids from the replies to an earlier run's POSTs. They count as own, at any date.
        is_undated: an earlier run sent a POST at an unknown time, so that no row is certainly its own.
        claims_undated: that run was of an early version. A single row of the name counts as its own.
        unclear: POSTs that may have made an instance of unknown id.
        doubtful: there was an unclear POST.
        candidates: instances of that name in the last LIST.
        doubts: instances that may be of this deploy, by id. Only a LIST that shows one can resolve its doubt.
        ref: the instance. None until it is known.
        is_named: an UncertainDeployError has named the deploy to its caller.
        last_error: error of the last unclear POST. None without one.
        is_cancelled: set once the caller is cancelled.
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
    doubts: dict[str, InstanceRef] = attrs.field(factory=dict)
    ref: InstanceRef | None = None
    is_named: bool = False
    last_error: Exception | None = None
    is_cancelled: asyncio.Event = attrs.field(factory=asyncio.Event)

    @property
    def id(self) -> str | None:
        """Id of the instance. None until it is known."""
        return None if self.ref is None else self.ref.id

    def take_unclear(self, id: str, *, named: bool = False) -> Intent | None:
        """Remove and return the unclear POST that made instance `id`.

        Unless `named`, the latest POST without an id serves, too.
        """
        fitting = [intent for intent in self.unclear if intent.id == id]
        if not (fitting or named):
            fitting = [intent for intent in reversed(self.unclear) if intent.id is None]
        if not fitting:
            return None
        self.unclear.remove(fitting[0])
        return fitting[0]

    def siblings(
        self,
        rows: NamedRows,
        since: datetime | None,
        *,
        is_ending: Callable[[InstanceRef], bool],
        is_elsewhere: Callable[[object], bool],
    ) -> tuple[list[Summary], list[InstanceRef]]:
        """Find live instances of that name, without other deploys' instances. Sets `candidates`.

        Args:
            rows: a LIST.
            since: the service's time before which this deploy made nothing. None if unknown.
            is_ending: decides if the session already ends an instance.
            is_elsewhere: decides if another deploy has an id.

        Returns:
            The instances of this deploy, oldest first (with `adopt`, all of that name), and those that may be
            of this deploy: they seem older, but clocks differ, or their rows do not fit the contract.
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
            if not is_safe_id(row.id):  # no path can carry the id, so no GET and no DELETE
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
                elif row.created_at >= since - LARGEST_ERROR:
                    doubtful.append(row.ref)
        if len(undated) == 1 and self.claims_undated:
            mine += undated
        else:
            doubtful += [row.ref for row in undated]
        shown = {str(raw.get("id")) for raw in rows.named(self.name)}
        self.doubts = {
            id: ref
            for id, ref in self.doubts.items()
            if not (id in shown or id in self.ids or id == self.id or is_ending(ref) or is_elsewhere(id))
        } | {ref.id: ref for ref in doubtful}
        doubtful = list(self.doubts.values())
        mine.sort(key=lambda row: (row.created_at, row.id))
        self.candidates = (*(row.ref for row in mine if row.id != self.id), *doubtful)
        return mine, doubtful
