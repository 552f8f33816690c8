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

from ..background import TaskHome
from ..errors import AuthError, ConfigError, DecodeError, FluenceError, NotFoundError, NotSentError
from ..http.messages import Lane
from ..http.rate_limit import Gate
from ..http.transport import ServerClock
from ..models.instances import Instance
from ..models.values import Kind, Status
from ..resources.instances import Instances
from ..resources.listing import BREATH
from .agenda import Agenda
from .evidence import Evidence, KeyDoubt
from .history import Wait
from .queues import DueHeap, GetQueue
from .schedule import Poll, backing_off
from .state import Subject, birth

LAST_LOOK: Final = 2.0
"""Seconds that a look may take beyond the deadline, so that one look always falls on it."""


class Watcher:
    """Looks at the instances of one kind for everybody who waits."""

    def __init__(
        self,
        kind: Kind,
        resources: Mapping[Kind, Instances[Any, Any, Any]],
        poll: Poll,
        home: TaskHome,
        gate: Gate,
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
        self._subjects: dict[str, Subject] = {}
        self._crowd: dict[str, Subject] = {}
        self._dues = DueHeap()
        self._deadlines: list[Wait] = []
        self._waits = 0
        self._queue = GetQueue(self._start, self._get, self._replan)
        self._listing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._planned = False
        self._closed = False
        self._key = KeyDoubt()

    # Who waits

    def join(self, wait: Wait, *, fresh: bool) -> None:
        """Look for `wait` until its outcome is there or it leaves; `fresh`: it was deployed this moment."""
        if self._closed:
            wait.fail(_closed())
            return
        now = _now()
        id = wait.seen.ref.id
        subject = self._subjects.get(id)
        if subject is None:
            subject = self._subjects[id] = Subject(id, now)
            if fresh:
                subject.born, subject.fresh = now, True
        subject.add(wait)
        self._waits += 1
        if wait.deadline < math.inf:
            heapq.heappush(self._deadlines, wait)
        self._place(subject)
        if not subject.crowd:
            subject.joined = now
            subject.gaps = None
            self._dues.set(subject, now)
        self._replan()

    def leave(self, wait: Wait) -> None:
        """Forget `wait`; without another for it, its instance, too."""
        subject = self._subjects.get(wait.seen.ref.id)
        if subject is None or wait not in subject.waits:
            return
        subject.waits.remove(wait)
        self._waits -= 1
        if len(self._deadlines) > 64 + 2 * self._waits:  # of waits long told, which hold what they were told
            self._deadlines = [other for other in self._deadlines if not other.outcome.done()]
            heapq.heapify(self._deadlines)
        if not subject.waits:
            self._leave_crowd(subject)
            del self._subjects[subject.id]
            subject.due = math.inf
        if not self._subjects:
            self._dues.clear()
            self._deadlines.clear()
            self._queue.clear()
            self._replan()

    def expected_wait(self, id: str) -> float | None:
        """Seconds that the provisioning of an instance is still expected to take; None when not awaited."""
        subject = self._subjects.get(id)
        if subject is None or not subject.crowd or subject.born is None:
            return None
        return self._agenda.expected_wait(_now() - subject.born)

    def close(self) -> None:
        """End every wait: the session closes."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_all(_closed())

    def _place(self, subject: Subject) -> None:
        """Into the crowd, or out of it, as its status and its waits have it."""
        if not subject.provisioning or subject.born is None:
            self._leave_crowd(subject)
        elif not subject.crowd:
            subject.crowd = True
            subject.due = math.inf
            self._crowd[subject.id] = subject
            self._agenda.add(subject.born, subject.looked)

    def _leave_crowd(self, subject: Subject) -> None:
        if subject.crowd and subject.born is not None:
            subject.crowd = False
            del self._crowd[subject.id]
            self._agenda.remove(subject.born)

    # When to look

    def _set_due_later(self, subject: Subject) -> None:
        """Soon, and then less and less often."""
        if subject.gaps is None:
            subject.gaps = backing_off(self._poll.interval)
        self._dues.set(subject, _now() + next(subject.gaps))

    def _set_due_soon(self, subject: Subject) -> None:
        """Poll the instance once more, after a refusal that may be a gateway's."""
        self._dues.set(subject, _now() + self._poll.interval / 40)

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
        if not self._subjects or self._closed:
            return
        when = math.inf
        if not self._agenda.by_list:
            for subject in self._crowd.values():
                if subject.due == math.inf and not subject.asking and subject.born is not None:
                    self._dues.set(subject, self._agenda.next_get(subject.born, subject.looked))
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
        last: set[Subject] = set()
        while self._deadlines and self._deadlines[0].deadline <= now:
            wait = heapq.heappop(self._deadlines)
            if not wait.outcome.done():
                last.add(self._subjects[wait.seen.ref.id])
        due = {subject for subject in self._dues.pop(now) if not (subject.crowd and agenda.by_list)}
        soonest = agenda.soonest(self._rate())
        listed = {subject for subject in due | last if not (subject.detailed or subject.unlisted)}
        doubted = {subject for subject in due if subject.get_failed}
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
                for subject in listed:
                    self._dues.set(subject, max(soonest, now + self._poll.interval / 40))
        else:
            listed = set()
        for subject in last - listed:
            self._start(self._get(subject))
        for subject in due - listed - last:
            self._queue.add(subject)
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

    def _limit(self, waits: Sequence[Wait]) -> float | None:
        """Until when a look may take: the first deadline it serves, or a moment longer if that is now."""
        first = min((wait.deadline for wait in waits), default=math.inf)
        return None if first == math.inf else max(first, _now() + LAST_LOOK)

    async def _list(self, last: set[Subject], own: set[Subject]) -> None:
        """One LIST for everybody. For `last` a deadline has come; `own` are those it was due for besides."""
        asked = _now()
        resource = self._resources[self._kind]
        lane = Lane.POLL if self._poll.prefer == "deploys" else Lane.HANDOVER
        try:
            limit = asked + LAST_LOOK if last else self._limit(self._deadlines[:1])
            rows = await resource.look_at_rows(lane=lane, deadline=limit)
            now = _now()
            ids: set[str] = set()
            for number, (id, text, row) in enumerate(rows, 1):
                if number % BREATH == 0:
                    await asyncio.sleep(0)
                ids.add(id)
                subject = self._subjects.get(id)
                if subject is None:
                    continue
                subject.get_failed = False
                if subject.detailed:
                    continue
                if text == subject.text and asked >= subject.fence:
                    subject.looked, subject.fence = asked, now
                elif not subject.is_stale(status := Status(text), asked):
                    self._take(subject, status, row.get("created_at"), asked, now)
                    subject.text = text
                if subject in last:
                    subject.remember(resource, row)
            await asyncio.sleep(0)
            self._key.accepted()
            self._agenda.list_came(asked, _now(), rows.size)
            is_complete = rows.is_complete and self._evidence.is_complete(self._kind, ids, asked)
            for subject in (*self._crowd.values(), *own):
                if subject.id not in ids and subject.waits:
                    self._missing(subject, asked, is_complete)
        except AuthError as error:
            self._agenda.list_refused(_now())
            if self._key.refused(asked, _now()):
                self._fail_all(error)
        except FluenceError as error:
            self._agenda.list_failed(_now(), unreadable=isinstance(error, DecodeError))
            for subject in self._subjects.values():
                if not subject.detailed:
                    subject.failed(error)
        finally:
            self._listing -= 1
            for subject in own:
                # One in the queue was found ready just now, and its detail concludes.
                if not subject.asking and (not subject.crowd or subject in last):
                    self._conclude(subject, asked)
            for subject in self._subjects.values():
                # A status that this release does not know is polled on, too.
                if not (subject.crowd or subject.asking or subject.detailed) and subject.due == math.inf:
                    self._set_due_later(subject)
            self._replan()

    async def _get(self, subject: Subject) -> None:
        """One GET, for everybody who waits for this one."""
        asked = _now()
        lane = Lane.HANDOVER
        if self._poll.prefer == "deploys":
            lane = Lane.AWAITED if subject.detailed else Lane.POLL
        try:
            resource = self._resources[self._kind]
            limit = self._limit(subject.waits)
            answer = await resource.look_at_answer(subject.id, lane=lane, deadline=limit)
            self._key.accepted()
            try:
                instance: Instance = resource.detail_of(answer)
            except DecodeError as error:
                # The status alone is enough to end it.
                status = resource.status_of(answer)
                if status is not None and not subject.is_stale(status, asked):
                    self._take(subject, status, None, asked, _now())
                subject.failed(error)
            else:
                if not subject.is_stale(instance.status, asked):
                    self._take(subject, instance.status, instance.created_at, asked, _now(), instance)
        except AuthError as error:
            subject.failed(error)
            if self._key.refused(asked, _now()):
                self._fail_all(error)
            if subject.waits:
                self._set_due_soon(subject)
        except ConfigError as error:  # this is no id at all
            for wait in subject.waits:
                wait.fail(copy.copy(error))
        except FluenceError as error:
            subject.failed(error)
            subject.get_failed = True
            subject.is_unknown = isinstance(error, NotFoundError)
        finally:
            self._conclude(subject, asked)

    def _conclude(self, subject: Subject, asked: float) -> None:
        """After a look, of whatever outcome: end the waits whose deadline it was, and see to the next."""
        subject.expire(asked)
        told = subject.looked is not None and subject.looked >= asked
        if subject.waits and subject.due == math.inf and not (subject.crowd and told):
            self._set_due_later(subject)

    # What a look tells

    def _take(
        self,
        subject: Subject,
        status: Status,
        created_at: object,
        asked: float,
        now: float,
        instance: Instance | None = None,
    ) -> None:
        """A look came through: `status`, with the `instance` in full if it was a GET."""
        was = subject.status
        if subject.born is None:
            subject.born = birth(created_at, self._clock.at(asked), asked) or self._agenda.born_if_due(asked)
        elif subject.fresh and subject.provisioning and (status.final or status is Status.ACTIVE):
            looked = subject.born if subject.looked is None else subject.looked
            self._agenda.saw(subject.born, looked, now)
        if status is not was:
            subject.gaps = None
        detailed = subject.detailed
        subject.looked = asked if subject.looked is None else max(asked, subject.looked)
        subject.fence = now
        self._evidence.saw(self._kind, subject.id, status, min(subject.born, subject.since))
        if subject.judge(status, instance, now):
            self._place(subject)
            if subject.detailed and not detailed:
                self._queue.add(subject)  # ready, and paid for: its detail is fetched at once
        else:
            self._leave_crowd(subject)
            subject.due = math.inf

    def _may_be_over(self, subject: Subject, asked: float) -> bool:
        """Whether a LIST requested at `asked` that lacks the instance would prove that it is over."""
        return self._evidence.is_over(subject.status, asked, subject.since)

    def _missing(self, subject: Subject, asked: float, is_complete: bool) -> None:
        """Draw the conclusion from a LIST without the instance: proof of its end, or a GET."""
        is_unknown, subject.get_failed, subject.is_unknown = subject.is_unknown, False, False
        if is_unknown and is_complete and self._may_be_over(subject, asked):
            subject.end()
        elif not (subject.unlisted or subject.detailed) and (
            subject.status is not None or self._may_be_over(subject, asked)
        ):
            subject.unlisted = True
            self._place(subject)
            self._dues.set(subject, _now())

    def _fail_all(self, error: BaseException) -> None:
        """End every wait, each with an error of its own: a shared one would collect all tracebacks."""
        for subject in self._subjects.values():
            for wait in subject.waits:
                wait.fail(copy.copy(error))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _closed() -> NotSentError:
    return NotSentError("the session is closed", permanent=True)
