"""Custody: what was paid for and has no owner any more is seen gone, whoever was cancelled meanwhile.

Between the POST and the moment the caller holds the instance, the session holds it. This module ends
things and keeps count of what is not ended yet; it never creates any.
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
import attrs

from ..background import BackgroundTasks
from ..errors import AuthError, CustodyError, FluenceError, NoReplyError, NotSentError, WireError
from ..models.instances import InstanceRef
from ..polling.evidence import Evidence
from ..polling.history import WaitHistory, timed_out
from ..polling.schedule import backing_off
from .clean_up import Progress
from .journal import Journal
from .minimum_runtime import minutes, until_minimum
from .wait import Waiter

log: Final = logging.getLogger("aiofluence")

_LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries to end an instance while the service refuses."""
_HOPELESS: Final = 300.0
"""Seconds without any sign of progress, after which a close no longer waits."""
_REPORT_EVERY: Final = 15.0
"""Seconds between two lines about a close that takes long."""
_GONE_WITHIN: Final = 2700.0
"""Seconds that a caller waits for an end: provisioning, then a DELETE that is refused for 20 minutes."""
_DELETED_IN: Final = 5.0
"""Seconds from ACTIVE until an instance is deleted and seen gone."""


@attrs.frozen
class Custody:
    """What a session answers for at one moment.

    Attributes:
        ending: being ended; still billing.
        lost: could not be ended; may still be billing.
        duplicates: second instances of one deploy, which the service showed late; ended, or being ended.
        deploying: names of deploys under way.
        uncertain: names of deploys that nobody waited for any more and that may have left an instance.
        watching: names that are still watched for twins that come late.
        seconds_left: seconds until the last of `ending` is gone, roughly; None when that is not known.
        refused: those of `ending` whose DELETE the service refuses until a minimum runtime is over.
    """

    ending: tuple[InstanceRef, ...] = ()
    lost: tuple[InstanceRef, ...] = ()
    duplicates: tuple[InstanceRef, ...] = ()
    deploying: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    watching: tuple[str, ...] = ()
    seconds_left: float | None = None
    refused: tuple[InstanceRef, ...] = ()


class Custodian:
    """Ends what it is given, in tasks of the session, until the session has waited for the last."""

    def __init__(self, home: BackgroundTasks, waiter: Waiter, journal: Journal, evidence: Evidence) -> None:
        self._home = home
        self._waiter = waiter
        self._journal = journal
        self._evidence = evidence
        self._held: dict[InstanceRef, asyncio.Future[bool]] = {}
        self._refused: dict[InstanceRef, asyncio.Future[None]] = {}
        """Fails when the key is refused to end an instance; custody tries again all the same."""
        self._seen: dict[InstanceRef, WaitHistory] = {}
        """Of the instances that are being ended."""
        self._lost: dict[InstanceRef, BaseException] = {}
        self._twins: list[InstanceRef] = []
        self._deploys: dict[asyncio.Future[Any], str] = {}
        self._watches: dict[asyncio.Future[Any], str] = {}
        self._uncertain: list[str] = []
        self._cared: dict[InstanceRef, asyncio.Future[None]] = {}
        """Deployed for callers who have not got them yet; done when they have, or it is taken."""
        self._lent: set[InstanceRef] = set()
        """In use inside a block, and ended behind it."""

    @property
    def now(self) -> Custody:
        """What it answers for at this moment."""
        return Custody(
            ending=tuple(self._held),
            lost=tuple(self._lost),
            duplicates=tuple(self._twins),
            deploying=tuple(self._deploys.values()),
            uncertain=tuple(self._uncertain),
            watching=tuple(self._watches.values()),
            seconds_left=self._seconds_left(),
            refused=tuple(filter(self._waiter.minimum.is_refused, tuple(self._held))),
        )

    def _seconds_left(self) -> float | None:
        if asyncio._get_running_loop() is None:  # another thread asks, as at the end of a program
            return None
        known = [wait for ref in self._held if (wait := self._waiter.expected_wait(ref)) is not None]
        return max(known) + _DELETED_IN if known else None

    def take(self, ref: InstanceRef) -> None:
        """See `ref` gone, in the background. Taking it twice is taking it once."""
        self._home.owner.check()
        self._release(ref)
        if ref in self._held:
            return
        self._lost.pop(ref, None)
        with self._home.at_work():
            self._journal.take_back(ref)
            try:
                ending = self._home.spawn(self._end(ref))
            except NotSentError as error:
                self._lost[ref] = error
                return
        self._held[ref] = ending
        self._refused[ref] = asyncio.get_running_loop().create_future()
        ending.add_done_callback(partial(self._note_end, ref))

    async def _end(self, ref: InstanceRef) -> bool:
        """Try until `ref` is proven over, or the session closes: no error is a reason to let it bill.

        Returns:
            False if `ref` was left to another run, which has adopted it.
        """
        pauses = backing_off(_LONGEST_PAUSE)
        seen = self._seen[ref] = WaitHistory(ref)
        is_left = False

        def may_end() -> bool:
            nonlocal is_left
            is_left = self._journal.is_taken_over(ref.id)
            return not is_left

        while True:
            try:
                await self._waiter.end(ref, None, seen=seen, may_end=may_end)
                return not is_left
            except Exception as error:
                if isinstance(error, WireError) and self._home.is_closed:
                    raise
                log.debug("ending %s: %r", ref, error)
                refused = self._refused.get(ref)
                if isinstance(error, AuthError) and refused is not None and not refused.done():
                    refused.set_exception(error)
                    refused.exception()  # a caller may be waiting, or none
            await asyncio.sleep(next(pauses))

    def take_duplicate(self, ref: InstanceRef, *, deployed_twice: bool = True) -> None:
        """See `ref` gone, and log why: a duplicate, or made by a deploy that was reported as failed."""
        if ref not in self._held and ref not in self._lost:
            why = "was deployed twice" if deployed_twice else "was created by a deploy that failed"
            log.warning("%s %s; the service was slow to show it. Ending it.", ref, why)
            self._twins.append(ref)
            self.take(ref)

    @property
    def is_failing(self) -> bool:
        """Whether an instance could not be ended so far, and goes on billing."""
        failing = any(seen.last_error is not None for seen in self._seen.values())
        return bool(self._lost) or failing or any(refused.done() for refused in self._refused.values())

    def holds(self, ref: InstanceRef) -> bool:
        """Whether `ref` is being ended."""
        return ref in self._held or ref in self._lost

    async def see_gone(self, ref: InstanceRef) -> bool:
        """Take `ref`, and wait until it is gone. A cancelled caller leaves; the custodian goes on.

        Returns:
            False if `ref` was left to another run, which has adopted it.

        Raises:
            AuthError: the service keeps refusing the key; the custodian goes on trying.
            WaitTimeoutError: `ref` is not gone after 45 minutes; the custodian goes on trying.
            WireError: the session is closed, or was meanwhile.
        """
        self.take(ref)
        if ref in self._lost:
            raise self._lost[ref]
        ending, refused = self._held[ref], self._refused[ref]
        done, _ = await asyncio.wait(
            (ending, refused), timeout=_GONE_WITHIN, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            raise timed_out(self._seen[ref], "ended (it may be billing, and the session goes on trying)")
        if not ending.done():
            refused.result()
        return await asyncio.shield(ending)

    def care_for(self, deploy: asyncio.Future[InstanceRef]) -> None:
        """Until what `deploy` has made is handed over or taken, the session does not close."""
        if deploy.exception() is not None:
            return
        ref = deploy.result()
        if not self.holds(ref) and ref not in self._cared:  # two callers may have adopted it
            self._cared[ref] = asyncio.get_running_loop().create_future()

    def lend(self, ref: InstanceRef) -> None:
        """`ref` is in use inside a block, and is ended behind it: at the latest when the session closes."""
        self._release(ref)
        self._lent.add(ref)

    def _release(self, ref: InstanceRef) -> None:
        self._lent.discard(ref)
        if (cared := self._cared.pop(ref, None)) is not None:
            cared.set_result(None)

    def hand_over(self, ref: InstanceRef) -> None:
        """The caller holds `ref` now; what becomes of it is no longer the session's business."""
        self._release(ref)
        self._journal.hand_over(ref)

    def note_gone(self, ref: InstanceRef) -> None:
        """`ref` was seen gone, without our doing."""
        self._release(ref)
        self._journal.is_over(ref.id)

    def expect(self, deploy: asyncio.Future[Any], name: str) -> None:
        """Wait for `deploy`, too, before the session closes: its caller may be gone by then."""
        self._deploys[deploy] = name
        deploy.add_done_callback(self._note_deploy)

    def doubt(self, name: str) -> None:
        """A deploy of that name may have left an instance, and nobody was there to be told."""
        if name not in self._uncertain:
            self._uncertain.append(name)

    def found(self, name: str) -> None:
        """What a deploy of that name may have left is found."""
        if name in self._uncertain:
            self._uncertain.remove(name)

    def let_watch(self, watch: asyncio.Future[Any], name: str) -> None:
        """Give `watch`, which looks for what a deploy may have left, time before the session closes.

        Cut short, it leaves nothing that is known of, so that is no error.
        """
        self._watches[watch] = name
        watch.add_done_callback(lambda _: self._watches.pop(watch, None))

    async def drain(self, timeout: float) -> None:
        """Wait until everything is gone: at most `timeout` seconds, and only while there is progress.

        A cancellation does not cut this short: it is raised again when all is done. Only when the whole loop
        is being torn down, as after a second Ctrl-C, it returns at once.

        Raises:
            CustodyError: something may still be running; `.refs` and `.names` say what.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        progress = Progress(loop.time(), _REPORT_EVERY)
        cancelled: asyncio.CancelledError | None = None
        for ref in tuple(self._lost):
            self.take(ref)
        try:
            with anyio.CancelScope(shield=True):  # a cancelled scope would cancel again in every turn
                while pending := self._pending():
                    now = loop.time()
                    hopeless = progress.note((self._evidence.replies, len(pending)), now) + _HOPELESS
                    if now >= min(deadline, hopeless) or self._home.is_torn_down:
                        break
                    if progress.is_due(now):
                        log.warning("%s", self._told(progress))
                    until = min(deadline, hopeless, progress.due)
                    try:
                        await asyncio.wait(pending, timeout=until - now, return_when=asyncio.FIRST_COMPLETED)
                    except asyncio.CancelledError as error:
                        cancelled = error
        except BaseException:  # KeyboardInterrupt comes at any line
            self._report(at_once=True)
            raise
        if self._home.is_torn_down:
            self._report(at_once=True)
        else:
            if self._watches:
                names = ", ".join(sorted(set(self._watches.values())))
                log.warning("closed while still watching for late twins of: %s", names)
            left = self._report(at_once=False)
            if left is not None:
                raise left
        if cancelled is not None:
            raise cancelled

    def _told(self, progress: Progress) -> str:
        """Describe the progress of the clean-up in one line."""
        ending = len(self._held)
        total = progress.most(ending)
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
        """What the session waits for before it closes."""
        for ref in tuple(self._lent):
            self.take(ref)
        return {*self._deploys, *self._watches, *self._held.values(), *self._cared.values()}

    def _note_end(self, ref: InstanceRef, ending: asyncio.Future[bool]) -> None:
        self._held.pop(ref, None)
        self._refused.pop(ref, None)
        seen = self._seen.pop(ref, None)
        error = ending.exception()
        if error is not None and seen is not None:
            error = seen.refusal or seen.last_error or error
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
        """What may still be running, logged; None when nothing is."""
        refs = (*self._lost, *self._held, *self._cared, *self._lent)
        names = tuple(dict.fromkeys((*self._uncertain, *self._deploys.values())))
        if not refs and not names:
            return None
        things = [str(ref) for ref in refs]
        if names:
            things.append(f"what came of deploying {', '.join(names)} is not known")
        refusals = (future.exception() for future in self._refused.values() if future.done())
        last_errors = (seen.refusal or seen.last_error for seen in self._seen.values())
        reasons = (*self._lost.values(), *refusals, *last_errors)
        why = "".join(f"; {text}" for text in dict.fromkeys(_why(reasons)))
        ways = " or ".join(f"sweep(prefix={name!r})" for name in _some([ref.name for ref in refs], names))
        error = CustodyError(
            f"may still be running, and billing: {', '.join(things)}{why}. "
            f"To end it: {'sweep()' if self._journal.path else ways}, with dry_run=False, in a new session"
        )
        error.refs, error.names = refs, names
        log.error("%s", error)
        if at_once and log.hasHandlers():  # without one, logging itself has just written it to stderr
            with contextlib.suppress(OSError, ValueError):  # a terminal that is gone
                sys.stderr.write(f"aiofluence: {error}\n")
        return error


def _why(errors: Iterable[BaseException | None]) -> Iterable[str]:
    return (str(error) for error in errors if isinstance(error, FluenceError))


def _some(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))[:5]
