"""The one poller of a kind: looks at all instances that anybody waits for, and tells whoever waits.

Status by a LIST for all or by GETs, whichever is cheaper, at the moment that `schedule` finds; details by
GET. A timer and no task: tasks run only while a request is on its way. What a look means is `seen`'s.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import math
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from ..background import BackgroundTasks
from ..errors import AuthError, ConfigError, DecodeError, FluenceError, NotFoundError, NotSentError
from ..http.messages import Priority
from ..http.rate_limit import RateLimiter
from ..http.transport import ServerClock
from ..models.instances import Instance
from ..models.values import Kind, Status
from ..resources.endpoints import Endpoints
from ..resources.listing import BREATH
from .agenda import Agenda
from .evidence import Evidence, KeyDoubt
from .history import WaitRequest
from .queues import DueHeap, GetQueue
from .schedule import Poll, backing_off
from .state import TrackedInstance, birth

LAST_LOOK: Final = 2.0
"""Seconds that a look may take beyond the deadline, so that one look always falls on it."""


class Poller:
    """Looks at the instances of one kind for everybody who waits."""

    def __init__(
        self,
        kind: Kind,
        resources: Mapping[Kind, Endpoints],
        poll: Poll,
        home: BackgroundTasks,
        gate: RateLimiter,
        clock: ServerClock,
        evidence: Evidence,
    ) -> None:
        self._kind = kind
        self._resources = resources
        self._poll = poll
        self._home = home
        self._gate = gate
        self._clock = clock
        self._evidence = evidence
        self._agenda = Agenda(poll)
        self._tracked: dict[str, TrackedInstance] = {}
        self._crowd: dict[str, TrackedInstance] = {}
        self._dues = DueHeap()
        self._deadlines: list[WaitRequest] = []
        self._waits = 0
        self._queue = GetQueue(self._start, self._get, self._replan)
        self._listing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._planned = False
        self._closed = False
        self._key = KeyDoubt()

    # Who waits

    def join(self, wait: WaitRequest, *, fresh: bool) -> None:
        """Look for `wait` until its outcome is there or it leaves; `fresh`: it was deployed this moment."""
        if self._closed:
            wait.fail(_closed())
            return
        now = _now()
        id = wait.seen.ref.id
        tracked = self._tracked.get(id)
        if tracked is None:
            tracked = self._tracked[id] = TrackedInstance(id, now)
            if fresh:
                tracked.born, tracked.fresh = now, True
        tracked.add(wait)
        self._waits += 1
        if wait.deadline < math.inf:
            heapq.heappush(self._deadlines, wait)
        self._place(tracked)
        if not tracked.is_pending:
            tracked.joined = now
            tracked.gaps = None
            self._dues.set(tracked, now)
        self._replan()

    def leave(self, wait: WaitRequest) -> None:
        """Forget `wait`; without another for it, its instance, too."""
        tracked = self._tracked.get(wait.seen.ref.id)
        if tracked is None or wait not in tracked.waits:
            return
        tracked.waits.remove(wait)
        self._waits -= 1
        if len(self._deadlines) > 64 + 2 * self._waits:  # of waits long told, which hold what they were told
            self._deadlines = [other for other in self._deadlines if not other.outcome.done()]
            heapq.heapify(self._deadlines)
        if not tracked.waits:
            self._leave_crowd(tracked)
            del self._tracked[tracked.id]
            tracked.due = math.inf
        if not self._tracked:
            self._dues.clear()
            self._deadlines.clear()
            self._queue.clear()
            self._replan()

    def expected_wait(self, id: str) -> float | None:
        """Seconds that the provisioning of an instance is still expected to take; None when not awaited."""
        tracked = self._tracked.get(id)
        if tracked is None or not tracked.is_pending or tracked.born is None:
            return None
        return self._agenda.expected_wait(_now() - tracked.born)

    def close(self) -> None:
        """End every wait: the session closes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_all(_closed())

    def _place(self, tracked: TrackedInstance) -> None:
        """Into the crowd, or out of it, as its status and its waits have it."""
        if not tracked.provisioning or tracked.born is None:
            self._leave_crowd(tracked)
        elif not tracked.is_pending:
            tracked.is_pending = True
            tracked.due = math.inf
            self._crowd[tracked.id] = tracked
            self._agenda.add(tracked.born, tracked.looked)

    def _leave_crowd(self, tracked: TrackedInstance) -> None:
        if tracked.is_pending and tracked.born is not None:
            tracked.is_pending = False
            del self._crowd[tracked.id]
            self._agenda.remove(tracked.born)

    # When to look

    def _set_due_later(self, tracked: TrackedInstance) -> None:
        """Soon, and then less and less often."""
        if tracked.gaps is None:
            tracked.gaps = backing_off(self._poll.interval)
        self._dues.set(tracked, _now() + next(tracked.gaps))

    def _set_due_soon(self, tracked: TrackedInstance) -> None:
        """Poll the instance once more, after a refusal that may be a gateway's."""
        self._dues.set(tracked, _now() + self._poll.interval / 40)

    def _replan(self) -> None:
        """Plan once in this turn of the loop, however many join in it."""
        if not self._planned and not self._closed:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        """Set the one timer to whatever is due first."""
        self._planned = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._tracked or self._closed:
            return
        when = math.inf
        if not self._agenda.by_list:
            for tracked in self._crowd.values():
                if tracked.due == math.inf and not tracked.asking and tracked.born is not None:
                    self._dues.set(tracked, self._agenda.next_get(tracked.born, tracked.looked))
        elif not self._listing:
            when = self._agenda.next_list(self._rate())
        while self._deadlines and self._deadlines[0].outcome.done():
            heapq.heappop(self._deadlines)
        when = min(when, self._dues.first())
        if self._deadlines:
            when = min(when, self._deadlines[0].deadline)
        if when < math.inf:
            self._timer = asyncio.get_running_loop().call_at(when, self._tick)

    def _rate(self) -> float | None:
        return self._gate.rate if self._gate.waiting else None

    def _tick(self) -> None:
        """Look at what is due."""
        self._timer = None
        now, agenda = _now(), self._agenda
        last: set[TrackedInstance] = set()
        while self._deadlines and self._deadlines[0].deadline <= now:
            wait = heapq.heappop(self._deadlines)
            if not wait.outcome.done():
                last.add(self._tracked[wait.seen.ref.id])
        due = {tracked for tracked in self._dues.pop(now) if not (tracked.is_pending and agenda.by_list)}
        soonest = agenda.soonest(self._rate())
        listed = {tracked for tracked in due | last if not (tracked.detailed or tracked.unlisted)}
        doubted = {tracked for tracked in due if tracked.get_failed}
        crowded = agenda.by_list and not self._listing and agenda.next_list(self._rate()) <= now
        if doubted and not self._listing and now >= soonest:
            listed |= doubted  # the last GET failed, which proves nothing: a LIST may show the instance
            self._listing += 1
            self._start(self._list(listed & last, listed))
        elif crowded or agenda.as_list(len(listed)):
            if crowded or listed & last or (now >= soonest and not self._listing):
                self._listing += 1
                self._start(self._list(listed & last, listed))
            else:  # a list is on its way, or was there just now: they can wait for the next
                for tracked in listed:
                    self._dues.set(tracked, max(soonest, now + self._poll.interval / 40))
        else:
            listed = set()
        for tracked in last - listed:
            self._start(self._get(tracked))
        for tracked in due - listed - last:
            self._queue.add(tracked)
        self._replan()

    # Looking

    def _start(self, look: Coroutine[Any, Any, None]) -> None:
        try:
            self._home.spawn(look).add_done_callback(self._check)
        except NotSentError as error:
            self._fail_all(error)

    def _check(self, look: asyncio.Future[None]) -> None:
        """A look deals with what the service does; anything else must not leave people waiting for ever."""
        error = None if look.cancelled() else look.exception()
        if error is not None and not isinstance(error, FluenceError):
            self._fail_all(error)

    def _limit(self, waits: Sequence[WaitRequest]) -> float | None:
        """Until when a look may take: the first deadline it serves, or a moment longer if that is now."""
        first = min((wait.deadline for wait in waits), default=math.inf)
        return None if first == math.inf else max(first, _now() + LAST_LOOK)

    async def _list(self, last: set[TrackedInstance], own: set[TrackedInstance]) -> None:
        """One LIST for everybody. For `last` a deadline has come; `own` are those it was due for besides."""
        asked = _now()
        endpoints = self._resources[self._kind]
        priority = Priority.POLL if self._poll.prefer == "deploys" else Priority.HANDOVER
        try:
            limit = asked + LAST_LOOK if last else self._limit(self._deadlines[:1])
            rows = await endpoints.rows(priority=priority, deadline=limit)
            now = _now()
            ids: set[str] = set()
            for number, (id, text, row) in enumerate(rows, 1):
                if number % BREATH == 0:
                    await asyncio.sleep(0)
                ids.add(id)
                tracked = self._tracked.get(id)
                if tracked is None:
                    continue
                tracked.get_failed = False
                if tracked.detailed:
                    continue
                if text == tracked.text and asked >= tracked.ignore_before:
                    tracked.looked, tracked.ignore_before = asked, now
                elif not tracked.is_stale(status := Status(text), asked):
                    self._take(tracked, status, row.get("created_at"), asked, now)
                    tracked.text = text
                if tracked in last:
                    tracked.remember(endpoints, row)
            await asyncio.sleep(0)
            self._key.accepted()
            self._agenda.list_came(asked, _now(), rows.size)
            is_complete = rows.is_complete and self._evidence.is_complete(self._kind, ids, asked)
            for tracked in (*self._crowd.values(), *own):
                if tracked.id not in ids and tracked.waits:
                    self._missing(tracked, asked, is_complete)
        except AuthError as error:
            self._agenda.list_refused(_now())
            if self._key.refused(asked, _now()):
                self._fail_all(error)
        except FluenceError as error:
            self._agenda.list_failed(_now(), unreadable=isinstance(error, DecodeError))
            for tracked in self._tracked.values():
                if not tracked.detailed:
                    tracked.failed(error)
        finally:
            self._listing -= 1
            for tracked in own:
                # One in the queue was found ready just now, and its detail concludes.
                if not tracked.asking and (not tracked.is_pending or tracked in last):
                    self._conclude(tracked, asked)
            for tracked in self._tracked.values():
                # A status that this release does not know is polled on, too.
                if not (tracked.is_pending or tracked.asking or tracked.detailed) and tracked.due == math.inf:
                    self._set_due_later(tracked)
            self._replan()

    async def _get(self, tracked: TrackedInstance) -> None:
        """One GET, for everybody who waits for this one."""
        asked = _now()
        priority = Priority.HANDOVER
        if self._poll.prefer == "deploys":
            priority = Priority.AWAITED if tracked.detailed else Priority.POLL
        try:
            endpoints = self._resources[self._kind]
            limit = self._limit(tracked.waits)
            answer = await endpoints.get(tracked.id, priority=priority, deadline=limit)
            self._key.accepted()
            try:
                instance: Instance = endpoints.detail_of(answer)
            except DecodeError as error:
                # The status alone is enough to end it.
                status = endpoints.status_of(answer)
                if status is not None and not tracked.is_stale(status, asked):
                    self._take(tracked, status, None, asked, _now())
                tracked.failed(error)
            else:
                if not tracked.is_stale(instance.status, asked):
                    self._take(tracked, instance.status, instance.created_at, asked, _now(), instance)
        except AuthError as error:
            tracked.failed(error)
            if self._key.refused(asked, _now()):
                self._fail_all(error)
            if tracked.waits:
                self._set_due_soon(tracked)
        except ConfigError as error:  # this is no id at all
            for wait in tracked.waits:
                wait.fail(copy.copy(error))
        except FluenceError as error:
            tracked.failed(error)
            tracked.get_failed = True
            tracked.is_unknown = isinstance(error, NotFoundError)
        finally:
            self._conclude(tracked, asked)

    def _conclude(self, tracked: TrackedInstance, asked: float) -> None:
        """After a look, of whatever outcome: end the waits whose deadline it was, and see to the next."""
        tracked.expire(asked)
        told = tracked.looked is not None and tracked.looked >= asked
        if tracked.waits and tracked.due == math.inf and not (tracked.is_pending and told):
            self._set_due_later(tracked)

    # What a look tells

    def _take(
        self,
        tracked: TrackedInstance,
        status: Status,
        created_at: object,
        asked: float,
        now: float,
        instance: Instance | None = None,
    ) -> None:
        """A look came through: `status`, with the `instance` in full if it was a GET."""
        was = tracked.status
        if tracked.born is None:
            tracked.born = birth(created_at, self._clock.at(asked), asked) or self._agenda.born_if_due(asked)
        elif tracked.fresh and tracked.provisioning and (status.final or status is Status.ACTIVE):
            looked = tracked.born if tracked.looked is None else tracked.looked
            self._agenda.saw(tracked.born, looked, now)
        if status is not was:
            tracked.gaps = None
        detailed = tracked.detailed
        tracked.looked = asked if tracked.looked is None else max(asked, tracked.looked)
        tracked.ignore_before = now
        self._evidence.saw(self._kind, tracked.id, status, min(tracked.born, tracked.since))
        if tracked.judge(status, instance, now):
            self._place(tracked)
            if tracked.detailed and not detailed:
                self._queue.add(tracked)  # ready, and paid for: its detail is fetched at once
        else:
            self._leave_crowd(tracked)
            tracked.due = math.inf

    def _may_be_over(self, tracked: TrackedInstance, asked: float) -> bool:
        """Whether a LIST requested at `asked` that lacks the instance would prove that it is over."""
        return self._evidence.is_over(tracked.status, asked, tracked.since)

    def _missing(self, tracked: TrackedInstance, asked: float, is_complete: bool) -> None:
        """Draw the conclusion from a LIST without the instance: proof of its end, or a GET."""
        is_unknown, tracked.get_failed, tracked.is_unknown = tracked.is_unknown, False, False
        if is_unknown and is_complete and self._may_be_over(tracked, asked):
            tracked.end()
        elif not (tracked.unlisted or tracked.detailed) and (
            tracked.status is not None or self._may_be_over(tracked, asked)
        ):
            tracked.unlisted = True
            self._place(tracked)
            self._dues.set(tracked, _now())

    def _fail_all(self, error: BaseException) -> None:
        """End every wait, each with an error of its own: a shared one would collect all tracebacks."""
        for tracked in self._tracked.values():
            for wait in tracked.waits:
                wait.fail(copy.copy(error))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _closed() -> NotSentError:
    return NotSentError("the session is closed", permanent=True)
