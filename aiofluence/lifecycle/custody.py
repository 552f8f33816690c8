"""Custody: ends instances that bill and have no owner, even after a cancellation.

Between the POST and the hand-over, the session holds the instance. This module ends instances and counts
those that have not ended yet. It never creates any.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import anyio

from ..background import BackgroundTasks, loop_time
from ..display.table import minutes
from ..errors import AuthError, CustodyError, FluenceError, NoReplyError, NotSentError
from ..models.custody import Custody
from ..models.instances import InstanceRef
from ..models.spending import until_minimum
from ..polling.evidence import Evidence
from ..polling.schedule import backing_off
from ..polling.state import WaitHistory, timed_out
from .journal import Journal
from .wait import Waiter

log: Final = logging.getLogger("aiofluence")

_LONGEST_PAUSE: Final = 60.0
"""Seconds between two attempts to end an instance while the service refuses."""
_HOPELESS: Final = 300.0
"""Seconds without any progress, after which a close no longer waits."""
_PATIENCE: Final = 2.0
"""Seconds that a close may take without a log line."""
_REPORT_EVERY: Final = 15.0
"""Seconds between two log lines of a long close."""
_GONE_WITHIN: Final = 2700.0
"""Seconds that a caller waits for an end: provisioning, then a DELETE that is refused for 20 minutes."""
_DELETED_IN: Final = 5.0
"""Seconds from ACTIVE until an instance is deleted and seen gone."""


class Custodian:
    """Ends the instances that it is given, in tasks of the session. A close waits for the last."""

    def __init__(self, tasks: BackgroundTasks, waiter: Waiter, journal: Journal, evidence: Evidence) -> None:
        self._tasks = tasks
        self._waiter = waiter
        self._journal = journal
        self._evidence = evidence
        self._held: dict[InstanceRef, asyncio.Future[bool]] = {}
        self._refused: dict[InstanceRef, asyncio.Future[None]] = {}
        """Fails if the service refuses the key for an end. Custody tries again in any case."""
        self._histories: dict[InstanceRef, WaitHistory] = {}
        """Histories of the instances that are being ended."""
        self._lost: dict[InstanceRef, BaseException] = {}
        self._duplicates: list[InstanceRef] = []
        self._deploys: dict[asyncio.Future[Any], str] = {}
        self._watches: dict[asyncio.Future[Any], str] = {}
        self._uncertain: list[str] = []
        self._cared: dict[InstanceRef, asyncio.Future[None]] = {}
        """Instances deployed for callers that do not hold them yet. Done once handed over or taken."""
        self._lent: set[InstanceRef] = set()
        """Instances in use inside a block, which ends them at its exit."""

    @property
    def now(self) -> Custody:
        """The custody at this moment."""
        return Custody(
            ending=tuple(self._held),
            lost=tuple(self._lost),
            duplicates=tuple(self._duplicates),
            deploying=tuple(self._deploys.values()),
            uncertain=tuple(self._uncertain),
            watching=tuple(self._watches.values()),
            seconds_left=self._seconds_left(),
            refused=tuple(filter(self._waiter.minimum.is_refused, tuple(self._held))),
        )

    def _seconds_left(self) -> float | None:
        if asyncio._get_running_loop() is None:  # called from another thread, as at the end of a program
            return None
        known = [wait for ref in self._held if (wait := self._waiter.expected_wait(ref)) is not None]
        return max(known) + _DELETED_IN if known else None

    def take(self, ref: InstanceRef) -> None:
        """End `ref` in the background, until it is gone. A second call changes nothing."""
        self._tasks.owner.check()
        self._release(ref)
        if ref in self._held:
            return
        self._lost.pop(ref, None)
        with self._tasks.at_work():
            self._journal.take_back(ref)
            try:
                ending = self._tasks.spawn(self._end(ref))
            except NotSentError as error:
                self._lost[ref] = error
                return
        self._held[ref] = ending
        self._refused[ref] = asyncio.get_running_loop().create_future()
        ending.add_done_callback(partial(self._note_end, ref))

    async def _end(self, ref: InstanceRef) -> bool:
        """Try until `ref` is proven over or the session closes. No other error stops it: `ref` bills.

        Returns False if `ref` was left to another run, which has adopted it.
        """
        pauses = backing_off(_LONGEST_PAUSE)
        history = self._histories[ref] = WaitHistory(ref)
        is_left = False

        def may_end() -> bool:
            nonlocal is_left
            is_left = self._journal.claims.is_taken_over(ref.id)
            return not is_left

        while True:
            try:
                await self._waiter.end(ref, None, history=history, may_end=may_end)
                return not is_left
            except Exception as error:
                if self._tasks.is_closed:
                    raise
                log.debug("ending %s: %r", ref, error)
                refused = self._refused.get(ref)
                if isinstance(error, AuthError) and refused is not None and not refused.done():
                    refused.set_exception(error)
                    refused.exception()  # marks it as retrieved: no caller may be waiting
            await asyncio.sleep(next(pauses))

    def take_duplicate(self, ref: InstanceRef, *, deployed_twice: bool = True) -> None:
        """End `ref`, and log the reason: a duplicate, or made by a deploy that was reported as failed."""
        if ref not in self._held and ref not in self._lost:
            why = "was deployed twice" if deployed_twice else "was created by a deploy that failed"
            log.warning("%s %s; the service was slow to show it. Ending it.", ref, why)
            self._duplicates.append(ref)
            self.take(ref)

    @property
    def is_failing(self) -> bool:
        """Return True if an instance could not be ended so far, and still bills."""
        failing = any(history.last_error is not None for history in self._histories.values())
        return bool(self._lost) or failing or any(refused.done() for refused in self._refused.values())

    def holds(self, ref: InstanceRef) -> bool:
        """Return True if `ref` is being ended, or could not be."""
        return ref in self._held or ref in self._lost

    async def see_gone(self, ref: InstanceRef) -> bool:
        """Take `ref`, and wait until it is gone. After a cancellation the custodian still ends it.

        Returns False if `ref` was left to another run, which has adopted it.

        Raises:
            AuthError: the service keeps refusing the key. The custodian keeps trying.
            WaitTimeoutError: `ref` is not gone after 45 minutes. The custodian keeps trying.
        """
        self.take(ref)
        if ref in self._lost:
            raise self._lost[ref]
        ending, refused = self._held[ref], self._refused[ref]
        done, _ = await asyncio.wait(
            (ending, refused), timeout=_GONE_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise timed_out(self._histories[ref], "ended (it may be billing, and the session keeps trying)")
        if not ending.done():
            refused.result()
        return await asyncio.shield(ending)

    def care_for(self, deploy: asyncio.Future[InstanceRef | None]) -> None:
        """Keep the session open until the instance of `deploy`, if it has one, is handed over or taken."""
        ref = None if deploy.exception() is not None else deploy.result()
        if ref is None:
            return
        if not self.holds(ref) and ref not in self._cared:  # two callers may have adopted it
            self._cared[ref] = asyncio.get_running_loop().create_future()

    def lend(self, ref: InstanceRef) -> None:
        """Note that `ref` is in use inside a block. Its end comes at the exit, or at the close."""
        self._release(ref)
        self._lent.add(ref)

    def _release(self, ref: InstanceRef) -> None:
        self._lent.discard(ref)
        if (cared := self._cared.pop(ref, None)) is not None:
            cared.set_result(None)

    def hand_over(self, ref: InstanceRef) -> None:
        """Give `ref` to the caller, who decides about its end from now on."""
        self._release(ref)
        self._journal.hand_over(ref)

    def note_gone(self, ref: InstanceRef) -> None:
        """Note that `ref` is gone, without an end by this session."""
        self._release(ref)
        self._journal.is_over(ref.id)

    def expect(self, deploy: asyncio.Future[Any], name: str) -> None:
        """Let the close wait for `deploy`, too: its caller may be gone by then."""
        self._deploys[deploy] = name
        deploy.add_done_callback(self._note_deploy)

    def doubt(self, name: str) -> None:
        """Note that a deploy of that name may have left an instance, and that no caller got the error."""
        if name not in self._uncertain:
            self._uncertain.append(name)

    def found(self, name: str) -> None:
        """Note that the instance which a deploy of that name may have left is found."""
        if name in self._uncertain:
            self._uncertain.remove(name)

    def let_watch(self, watch: asyncio.Future[Any], name: str) -> None:
        """Let the close wait for `watch`, which polls for late instances of a deploy.

        A watch that the close cuts short is no error: no instance is known.
        """
        self._watches[watch] = name
        watch.add_done_callback(lambda _: self._watches.pop(watch, None))

    async def drain(self, timeout: float) -> None:
        """Wait until all instances are gone: at most `timeout` seconds, and only while there is progress.

        A cancellation is raised again at the end, and does not shorten the wait. While the loop is being torn
        down, as after a second Ctrl-C, the wait ends at once.

        Raises:
            CustodyError: instances may still be running. See `.refs` and `.names`.
        """
        now = changed = loop_time()
        deadline, report_at = now + timeout, now + _PATIENCE
        state: object = None
        most = 0
        cancelled: asyncio.CancelledError | None = None
        for ref in tuple(self._lost):
            self.take(ref)
        try:
            with anyio.CancelScope(shield=True):  # a cancelled scope would cancel again in every turn
                while pending := self._pending():
                    now = loop_time()
                    if state != (self._evidence.replies, len(pending)):
                        state, changed = (self._evidence.replies, len(pending)), now
                    until = min(deadline, changed + _HOPELESS)
                    if now >= until or self._tasks.is_torn_down:
                        break
                    if now >= report_at:
                        # A watch alone has no progress to report.
                        interval = _REPORT_EVERY if self._held or self._deploys else 4 * _REPORT_EVERY
                        report_at, most = now + interval, max(most, len(self._held))
                        log.warning("%s", self._progress(most))
                    pause = min(until, report_at) - now
                    try:
                        await asyncio.wait(pending, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                    except asyncio.CancelledError as error:
                        cancelled = error
        except BaseException:  # KeyboardInterrupt comes at any line
            self._report(at_once=True)
            raise
        if self._tasks.is_torn_down:
            self._report(at_once=True)
        else:
            if self._watches:
                names = ", ".join(sorted(set(self._watches.values())))
                log.warning("closed while still watching for late duplicates of: %s", names)
            left = self._report(at_once=False)
            if left is not None:
                raise left
        if cancelled is not None:
            raise cancelled

    def _progress(self, total: int) -> str:
        """Describe the progress of a close, which began with `total` instances to end."""
        ending = len(self._held)
        parts = []
        if ending:
            parts.append(f"{total - ending} of {total} ended")
            if (seconds := self._seconds_left()) is not None:
                parts.append(f"about {minutes(seconds)} left")
            if refused := sum(map(self._waiter.minimum.is_refused, self._held)):
                parts.append(until_minimum(refused))
        if self._deploys:
            parts.append(f"{len(self._deploys)} deploys to be settled")
        if self._watches and not ending:
            parts.append(f"watching for late duplicates of {', '.join(_some(self._watches.values()))}")
        if ending:
            parts.append(f"Ctrl-C again leaves {ending} running")
        return f"closing: {', '.join(parts) or 'waiting for instances in use'}"

    def _pending(self) -> set[asyncio.Future[Any]]:
        """The futures that a close waits for."""
        for ref in tuple(self._lent):
            self.take(ref)
        return {*self._deploys, *self._watches, *self._held.values(), *self._cared.values()}

    def _note_end(self, ref: InstanceRef, ending: asyncio.Future[bool]) -> None:
        self._held.pop(ref, None)
        self._refused.pop(ref, None)
        history = self._histories.pop(ref, None)
        error = ending.exception()
        if error is not None and history is not None:
            error = history.refusal or history.last_error or error
        if error is not None:
            self._lost[ref] = error
        elif ending.result():
            self._journal.is_over(ref.id)
        else:
            log.warning("%s was adopted by another run, which it is left to", ref)
            self._journal.hand_over(ref)

    def _note_deploy(self, deploy: asyncio.Future[Any]) -> None:
        name = self._deploys.pop(deploy)
        error = deploy.exception()
        if isinstance(error, NoReplyError) and error.phase == "closed":
            self.doubt(name)

    def _report(self, *, at_once: bool) -> CustodyError | None:
        """Log the instances that may still be running, and make the error. None if there are none."""
        refs = (*self._lost, *self._held, *self._cared, *self._lent)
        names = tuple(dict.fromkeys((*self._uncertain, *self._deploys.values())))
        if not refs and not names:
            return None
        things = [str(ref) for ref in refs]
        if names:
            things.append(f"what came of deploying {', '.join(names)} is not known")
        refusals = (future.exception() for future in self._refused.values() if future.done())
        last_errors = (history.refusal or history.last_error for history in self._histories.values())
        reasons = (*self._lost.values(), *refusals, *last_errors)
        why = "".join(f"; {text}" for text in dict.fromkeys(_why(reasons)))
        ways = " or ".join(f"sweep(prefix={name!r})" for name in _some([ref.name for ref in refs], names))
        error = CustodyError(
            f"may still be running, and billing: {', '.join(things)}{why}. "
            f"To end it: {'sweep()' if self._journal.path else ways}, with dry_run=False, in a new session"
        )
        error.refs, error.names = refs, names
        log.error("%s", error)
        if at_once and log.hasHandlers():  # without a handler, logging itself has written it to stderr
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone
                sys.stderr.write(f"aiofluence: {error}\n")
        return error


def _why(errors: Iterable[BaseException | None]) -> Iterable[str]:
    return (str(error) for error in errors if isinstance(error, FluenceError))


def _some(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))[:5]
