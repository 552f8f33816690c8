"""The poller of a kind: polls all awaited instances, and passes the replies to their waits.

It gets the status by one LIST or by GETs, whichever is cheaper, and details by GET, as `schedule` plans.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import math
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from ..background import BackgroundTasks, in_turns, loop_time, session_closed
from ..errors import AuthError, ConfigError, DecodeError, FluenceError, NotFoundError, NotSentError
from ..http.messages import Priority
from ..models.instances import Instance
from ..models.values import Status
from ..resources.endpoints import Endpoints
from .evidence import Evidence, KeyDoubt
from .options import Poll
from .schedule import Agenda, DueHeap, GetQueue, backing_off
from .state import TrackedInstance, WaitRequest, creation_time

LAST_POLL: Final = 2.0
"""Seconds that a poll may take beyond the deadline, so that one poll always falls on the deadline."""


class Poller:
    """Polls the instances of one kind for all waits."""

    def __init__(
        self,
        endpoints: Endpoints,
        poll: Poll,
        tasks: BackgroundTasks,
        evidence: Evidence,
    ) -> None:
        self.endpoints: Final = endpoints
        self._poll = poll
        self._tasks = tasks
        self._rate_limiter = endpoints.transport.limiter
        self._clock = endpoints.transport.clock
        self._evidence = evidence
        self._agenda = Agenda(poll)
        self.times: Final = self._agenda.times
        self._tracked: dict[str, TrackedInstance] = {}
        self._pending: dict[str, TrackedInstance] = {}
        self._dues = DueHeap()
        self._deadlines: list[WaitRequest] = []
        self._waits = 0
        self._queue = GetQueue(self._start, self._get, self._replan)
        self._listing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._planned = False
        self._key = KeyDoubt()

    # Waits

    async def wait(self, wait: WaitRequest, *, fresh: bool = False) -> Any:
        """Poll until the condition of `wait` holds, and return the status or the detail.

        `fresh`: the instance was deployed just now, so that the first poll can come later.

        Raises:
            WaitTimeoutError: the deadline came first.
            InstanceEndedError: the service does not know the instance, or no longer.
            AuthError: the key is not valid, or no longer.
            NotSentError: the session was closed.
        """
        self._tasks.owner.check()
        if self._tasks.is_closed:
            raise session_closed()
        self._join(wait, fresh)
        try:
            return await wait.outcome
        finally:
            self._leave(wait)

    def _join(self, wait: WaitRequest, fresh: bool) -> None:
        now = loop_time()
        id = wait.history.ref.id
        tracked = self._tracked.get(id)
        if tracked is None:
            tracked = self._tracked[id] = TrackedInstance(id, now)
            if fresh:
                tracked.began, tracked.fresh = now, True
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

    def _leave(self, wait: WaitRequest) -> None:
        """Forget `wait`, and its instance if no other wait needs it."""
        tracked = self._tracked[wait.history.ref.id]
        tracked.waits.remove(wait)
        self._waits -= 1
        if len(self._deadlines) > 2 * self._waits:  # done waits in the heap keep their replies alive
            self._deadlines = [other for other in self._deadlines if not other.outcome.done()]
            heapq.heapify(self._deadlines)
        if not tracked.waits:
            self._leave_pending(tracked)
            del self._tracked[tracked.id]
            tracked.due = math.inf
        if not self._tracked:
            self._replan()

    def expected_wait(self, id: str) -> float | None:
        """Seconds that provisioning of instance `id` is still expected to take. None if not awaited."""
        tracked = self._tracked.get(id)
        began = tracked.began if tracked is not None and tracked.is_pending else None
        return None if began is None else self._agenda.expected_wait(loop_time() - began)

    def close(self) -> None:
        """End every wait: the session closes."""
        self._fail_all(session_closed())

    def _place(self, tracked: TrackedInstance) -> None:
        """Move the instance into or out of the pending ones, according to its status and its waits."""
        if not tracked.provisioning or tracked.began is None:
            self._leave_pending(tracked)
        elif not tracked.is_pending:
            tracked.is_pending = True
            tracked.due = math.inf
            self._pending[tracked.id] = tracked
            self._agenda.add(tracked.began, tracked.polled)

    def _leave_pending(self, tracked: TrackedInstance) -> None:
        if tracked.is_pending and tracked.began is not None:
            tracked.is_pending = False
            del self._pending[tracked.id]
            self._agenda.remove(tracked.began)

    # Times

    def _set_due_later(self, tracked: TrackedInstance) -> None:
        """Poll the instance soon, and then with growing gaps."""
        if tracked.gaps is None:
            tracked.gaps = backing_off(self._poll.interval)
        self._dues.set(tracked, loop_time() + next(tracked.gaps))

    def _replan(self) -> None:
        """Plan once in this turn of the loop, even if many instances join in it."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._plan)

    def _plan(self) -> None:
        """Set the timer to the earliest due time."""
        self._planned = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._tracked:
            return
        when = math.inf
        if not self._agenda.by_list:
            for tracked in self._pending.values():
                if tracked.due == math.inf and not tracked.queued and tracked.began is not None:
                    self._dues.set(tracked, self._agenda.next_get(tracked.began, tracked.polled))
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
        return self._rate_limiter.rate if self._rate_limiter.waiting else None

    def _tick(self) -> None:
        """Poll the instances that are due."""
        self._timer = None
        now, agenda = loop_time(), self._agenda
        last: set[TrackedInstance] = set()
        while self._deadlines and self._deadlines[0].deadline <= now:
            wait = heapq.heappop(self._deadlines)
            if not wait.outcome.done():
                last.add(self._tracked[wait.history.ref.id])
        due = {tracked for tracked in self._dues.pop(now) if not (tracked.is_pending and agenda.by_list)}
        soonest = agenda.soonest(self._rate())
        listed = {tracked for tracked in due | last if not (tracked.detailed or tracked.unlisted)}
        doubted = {tracked for tracked in due if tracked.get_failed}
        list_due = agenda.by_list and not self._listing and agenda.next_list(self._rate()) <= now
        if doubted and not self._listing and now >= soonest:
            listed |= doubted  # a failed GET proves nothing: a LIST may show the instance
            self._listing += 1
            self._start(self._list(listed & last, listed))
        elif list_due or agenda.as_list(len(listed)):
            if list_due or listed & last or (now >= soonest and not self._listing):
                self._listing += 1
                self._start(self._list(listed & last, listed))
            else:  # a LIST is in flight or came just now: the instances wait for the next
                for tracked in sorted(listed):
                    self._dues.set(tracked, max(soonest, now + self._poll.interval / 40))
        else:
            listed = set()
        for tracked in sorted(last - listed):
            self._start(self._get(tracked))
        for tracked in sorted(due - listed - last):
            self._queue.add(tracked)
        self._replan()

    # Polls

    def _start(self, poll: Coroutine[Any, Any, None]) -> None:
        try:
            self._tasks.spawn(poll).add_done_callback(self._check)
        except NotSentError as error:
            self._fail_all(error)

    def _check(self, poll: asyncio.Future[None]) -> None:
        """Fail all waits if a poll failed for a reason other than the service: no wait may hang."""
        error = None if poll.cancelled() else poll.exception()
        if error is not None and not isinstance(error, FluenceError):
            self._fail_all(error)

    def _limit(self, waits: Sequence[WaitRequest]) -> float | None:
        """Deadline of a poll: the first deadline of `waits`, but no earlier than `LAST_POLL` from now."""
        first = min((wait.deadline for wait in waits), default=math.inf)
        return None if first == math.inf else max(first, loop_time() + LAST_POLL)

    async def _list(self, last: set[TrackedInstance], own: set[TrackedInstance]) -> None:
        """Poll by one LIST. `last`: instances at a deadline. `own`: instances that are due by themselves."""
        asked = loop_time()
        priority = Priority.POLL if self._poll.prefer == "deploys" else Priority.HANDOVER
        try:
            limit = asked + LAST_POLL if last else self._limit(self._deadlines[:1])
            rows = await self.endpoints.rows(priority=priority, deadline=limit)
            now = loop_time()
            ids: set[str] = set()
            async for id, text, row in in_turns(rows):
                ids.add(id)
                tracked = self._tracked.get(id)
                if tracked is None:
                    continue
                tracked.get_failed = False
                if tracked.detailed:
                    continue
                if text == tracked.text and asked >= tracked.ignore_before:
                    tracked.polled, tracked.ignore_before = asked, now
                elif not tracked.is_stale(status := Status(text), asked):
                    self._take(tracked, status, row.get("created_at"), asked, now)
                    tracked.text = text
                if tracked in last:
                    tracked.remember(self.endpoints, row)
            await asyncio.sleep(0)
            self._key.accepted()
            self._agenda.list_came(asked, loop_time(), rows.size)
            is_complete = rows.is_complete and self._evidence.is_complete(self.endpoints.kind, ids, asked)
            for tracked in (*self._pending.values(), *sorted(own)):
                if tracked.id not in ids and tracked.waits:
                    self._missing(tracked, asked, is_complete)
        except AuthError as error:
            self._agenda.list_refused(loop_time())
            if self._key.refused(asked, loop_time()):
                self._fail_all(error)
        except FluenceError as error:
            self._agenda.list_failed(loop_time(), unreadable=isinstance(error, DecodeError))
            for tracked in self._tracked.values():
                if not tracked.detailed:
                    tracked.failed(error)
        finally:
            self._listing -= 1
            for tracked in sorted(own):
                # An instance in the GET queue was found ready just now. The GET of its detail concludes.
                if not tracked.queued and (not tracked.is_pending or tracked in last):
                    self._conclude(tracked, asked)
            for tracked in self._tracked.values():
                # Polls continue for an instance with an unknown status.
                if not (tracked.is_pending or tracked.queued or tracked.detailed) and tracked.due == math.inf:
                    self._set_due_later(tracked)
            self._replan()

    async def _get(self, tracked: TrackedInstance) -> None:
        """Poll one instance by a GET, for all its waits."""
        asked = loop_time()
        priority = Priority.HANDOVER
        if self._poll.prefer == "deploys":
            priority = Priority.AWAITED if tracked.detailed else Priority.POLL
        try:
            limit = self._limit(tracked.waits)
            answer = await self.endpoints.get(tracked.id, priority=priority, deadline=limit)
            self._key.accepted()
            try:
                instance: Instance = self.endpoints.detail_of(answer)
            except DecodeError as error:
                # The status alone can end a wait.
                status = self.endpoints.status_of(answer)
                if status is not None and not tracked.is_stale(status, asked):
                    self._take(tracked, status, None, asked, loop_time())
                tracked.failed(error)
            else:
                if not tracked.is_stale(instance.status, asked):
                    self._take(tracked, instance.status, instance.created_at, asked, loop_time(), instance)
        except AuthError as error:
            tracked.failed(error)
            if self._key.refused(asked, loop_time()):
                self._fail_all(error)
            if tracked.waits:  # once more, soon: the refusal may be a gateway's
                self._dues.set(tracked, loop_time() + self._poll.interval / 40)
        except ConfigError as error:  # the id is malformed
            for wait in tracked.waits:
                wait.fail(copy.copy(error))
        except FluenceError as error:
            tracked.failed(error)
            tracked.get_failed = True
            tracked.is_unknown = isinstance(error, NotFoundError)
        finally:
            self._conclude(tracked, asked)

    def _conclude(self, tracked: TrackedInstance, asked: float) -> None:
        """End the waits whose deadline came before this poll, and plan the next poll."""
        tracked.expire(asked)
        polled = tracked.polled is not None and tracked.polled >= asked
        if tracked.waits and tracked.due == math.inf and not (tracked.is_pending and polled):
            self._set_due_later(tracked)

    # Replies

    def _take(
        self,
        tracked: TrackedInstance,
        status: Status,
        created_at: object,
        asked: float,
        now: float,
        instance: Instance | None = None,
    ) -> None:
        """Take a successful poll: `status`, and from a GET the whole `instance`."""
        was = tracked.status
        if tracked.began is None:
            began = creation_time(created_at, self._clock.at(asked), asked)
            tracked.began = began or self._agenda.began_if_due(asked)
        elif tracked.fresh and tracked.provisioning and (status.final or status is Status.ACTIVE):
            polled = tracked.began if tracked.polled is None else tracked.polled
            self._agenda.saw(tracked.began, polled, now)
        if status is not was:
            tracked.gaps = None
        detailed = tracked.detailed
        tracked.polled = asked if tracked.polled is None else max(asked, tracked.polled)
        tracked.ignore_before = now
        self._evidence.saw(self.endpoints.kind, tracked.id, status, min(tracked.began, tracked.since))
        if tracked.judge(status, instance, now):
            self._place(tracked)
            if tracked.detailed and not detailed:
                self._queue.add(tracked)  # ready and billing: its detail is fetched at once

    def _missing(self, tracked: TrackedInstance, asked: float, is_complete: bool) -> None:
        """Handle a LIST without the instance: fail its waits if that is proof, or else poll it by GET."""
        is_unknown, tracked.get_failed, tracked.is_unknown = tracked.is_unknown, False, False
        may_be_over = self._evidence.is_over(tracked.status, asked, tracked.since)
        if is_unknown and is_complete and may_be_over:
            tracked.end()
        elif not (tracked.unlisted or tracked.detailed) and (tracked.status is not None or may_be_over):
            tracked.unlisted = True
            self._place(tracked)
            self._dues.set(tracked, loop_time())

    def _fail_all(self, error: BaseException) -> None:
        """Fail every wait, each with its own copy of `error`: a shared one would collect tracebacks."""
        for tracked in self._tracked.values():
            for wait in tracked.waits:
                wait.fail(copy.copy(error))
