"""LISTs by name that all deploys of one kind share: 200 unclear deploys cost one LIST, not 200.

At most one LIST is in flight. The next follows after a pause, which grows while LISTs fail. `deploy` judges
the rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Sequence
from typing import Final

import attrs

from ..background import BackgroundTasks, in_turns, loop_time
from ..errors import FluenceError
from ..http.messages import Json, Priority
from ..polling.evidence import Evidence
from ..polling.schedule import backing_off
from ..resources.endpoints import Endpoints

INTERVAL: Final = 3.0
"""Seconds between two LISTs."""
_LONGEST: Final = 5.0
"""Seconds between two LISTs after several have failed. The transport's pauses come on top."""


@attrs.frozen
class NamedRows:
    """The rows of one LIST, by name.

    Attributes:
        asked: loop time at which the LIST was requested.
        is_whole: the LIST is no page of several, and holds all instances that are known to live.
        nameless: number of rows whose name cannot be read.
    """

    asked: float
    is_whole: bool
    nameless: int
    _by_name: dict[str, list[Json]]

    def named(self, name: str) -> Sequence[Json]:
        """The raw rows of that name."""
        return self._by_name.get(name, ())


class SharedList:
    """The LISTs of one kind."""

    def __init__(self, tasks: BackgroundTasks, evidence: Evidence, pace: float = 1.0) -> None:
        self._tasks = tasks
        self._evidence = evidence
        self._waiting: dict[asyncio.Future[NamedRows], tuple[float, Endpoints]] = {}
        self._news = asyncio.Event()
        self._is_running = False
        self._interval = INTERVAL * pace
        self._longest = _LONGEST * pace
        self._gap = 0.0
        self._gaps = backing_off(self._longest)
        self._came = float("-inf")

    async def after(self, endpoints: Endpoints, moment: float, *, at_once: bool = False) -> NamedRows:
        """The first LIST that is requested at or after the loop time `moment`.

        `at_once`: do not wait for the interval between two LISTs, unless they fail.

        Raises:
            FluenceError: the LIST failed, or the session is closed.
        """
        if not at_once:
            moment = max(moment, self._came + self._interval)
        outcome: asyncio.Future[NamedRows] = asyncio.get_running_loop().create_future()
        self._waiting[outcome] = moment, endpoints
        self._news.set()
        try:
            if not self._is_running:
                self._tasks.spawn(self._serve()).add_done_callback(self._stopped)
                self._is_running = True
            return await outcome
        finally:
            self._waiting.pop(outcome, None)

    async def now(self, endpoints: Endpoints) -> NamedRows:
        """A LIST that is requested now, shared with the other callers of this moment."""
        return await self.after(endpoints, loop_time(), at_once=True)

    async def _serve(self) -> None:
        """Send LISTs until no caller waits."""
        while self._waiting:
            self._news.clear()
            due = max(min(moment for moment, _ in self._waiting.values()), self._came + self._gap)
            if due > loop_time():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(due):
                        await self._news.wait()
                continue
            asked = loop_time()
            endpoints = next(endpoints for moment, endpoints in self._waiting.values() if moment <= asked)
            found: NamedRows | FluenceError
            try:
                found = await self._list(endpoints, asked)
                self._gap, self._gaps = 0.0, backing_off(self._longest)
            except FluenceError as error:
                found = error
                self._gap = max(self._interval, next(self._gaps))
            self._came = loop_time()
            for outcome, (moment, _) in tuple(self._waiting.items()):
                if moment <= asked and not outcome.done():
                    if isinstance(found, NamedRows):
                        outcome.set_result(found)
                    else:
                        outcome.set_exception(copy.copy(found))  # each traceback is its caller's own
                    del self._waiting[outcome]
        self._is_running = False

    def _stopped(self, run: asyncio.Future[None]) -> None:
        error = run.exception()
        if error is not None:  # the session was closed
            self._is_running = False
            for outcome in self._waiting:
                if not outcome.done():
                    outcome.set_exception(copy.copy(error))

    async def _list(self, endpoints: Endpoints, asked: float) -> NamedRows:
        rows = await endpoints.rows(priority=Priority.DEPLOY)
        ids: set[str] = set()
        by_name: dict[str, list[Json]] = {}
        nameless = 0
        async for row in in_turns(rows.raw()):
            fields = row if type(row) is dict else {}
            if type(id := fields.get("id")) is str:
                ids.add(id)
            if type(name := fields.get("name")) is str:
                by_name.setdefault(name, []).append(row)
            else:
                nameless += 1
        is_whole = not rows.is_paged and self._evidence.is_complete(endpoints.kind, ids, asked)
        return NamedRows(asked, is_whole, nameless, by_name)
