"""Custody: what was paid for and has no owner any more is seen gone, whoever was cancelled meanwhile.

Between the POST and the moment the caller holds the instance, the session holds it. This module ends
things and keeps count of what is not ended yet; it never creates any.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import anyio
import attrs

from ..errors import CustodyError, FluenceError, NoReplyError, NotSentError
from ..models.instances import InstanceRef
from .journal import Journal
from .tasks import TaskHome
from .wait import Waiter

log: Final = logging.getLogger("aiofluence")


@attrs.frozen
class Custody:
    """What a session answers for at one moment.

    Attributes:
        ending: being ended; still billing.
        lost: could not be ended; may still be billing.
        twins: deployed a second time by a service that was slow to show the first; ended, or being ended.
        deploying: names of deploys under way.
        uncertain: names of deploys that nobody waited for any more and that may have left an instance.
        watching: names that are still watched for twins that come late.
    """

    ending: tuple[InstanceRef, ...] = ()
    lost: tuple[InstanceRef, ...] = ()
    twins: tuple[InstanceRef, ...] = ()
    deploying: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    watching: tuple[str, ...] = ()


class Custodian:
    """Ends what it is given, in tasks of the session, until the session has waited for the last."""

    def __init__(self, home: TaskHome, waiter: Waiter, journal: Journal) -> None:
        self._home = home
        self._waiter = waiter
        self._journal = journal
        self._held: dict[InstanceRef, asyncio.Future[bool]] = {}
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
            twins=tuple(self._twins),
            deploying=tuple(self._deploys.values()),
            uncertain=tuple(self._uncertain),
            watching=tuple(self._watches.values()),
        )

    def take(self, ref: InstanceRef) -> None:
        """See `ref` gone, in the background. Taking it twice is taking it once."""
        self._release(ref)
        if ref in self._held:
            return
        self._lost.pop(ref, None)
        self._journal.take_back(ref)
        try:
            ending = self._home.spawn(self._waiter.end(ref, None))
        except NotSentError as error:
            self._lost[ref] = error
            return
        self._held[ref] = ending
        ending.add_done_callback(partial(self._note_end, ref))

    def take_twin(self, ref: InstanceRef) -> None:
        """`ref` was deployed twice: see it gone, and say so."""
        if ref not in self._held and ref not in self._lost:
            log.warning("%s was deployed twice; the service was slow to show it. Ending it.", ref)
            self._twins.append(ref)
            self.take(ref)

    def holds(self, ref: InstanceRef) -> bool:
        """Whether `ref` is being ended."""
        return ref in self._held or ref in self._lost

    async def see_gone(self, ref: InstanceRef) -> None:
        """Take `ref`, and wait until it is gone. A cancelled caller leaves; the custodian goes on.

        Raises:
            AuthError: the key is not, or no longer, good.
            WireError: the session is closed, or was meanwhile.
        """
        self.take(ref)
        if ref in self._lost:
            raise self._lost[ref]
        await asyncio.shield(self._held[ref])

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
        self._journal.ended(ref)

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
        """Wait until everything is gone, at most `timeout` seconds.

        A cancellation does not cut this short: it comes again when all is done. Only when the whole loop
        is being torn down, which is what a second Ctrl-C does, it leaves at once.

        Raises:
            CustodyError: something may still be running; `.refs` and `.names` say what.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        cancelled: asyncio.CancelledError | None = None
        for ref in tuple(self._lost):  # such as while the key was refused: perhaps it is good by now
            self.take(ref)
        try:
            with anyio.CancelScope(
                shield=True
            ):  # a cancelled scope would cancel again in every turn of the loop
                while pending := self._pending():
                    seconds = deadline - loop.time()
                    if seconds <= 0 or self._home.is_torn_down:
                        break
                    try:
                        await asyncio.wait(pending, timeout=seconds)
                    except asyncio.CancelledError as error:
                        cancelled = error
        except BaseException:  # KeyboardInterrupt comes wherever it finds us
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

    def _pending(self) -> set[asyncio.Future[Any]]:
        """What the session waits for before it closes."""
        for ref in tuple(self._lent):
            self.take(ref)
        return {*self._deploys, *self._watches, *self._held.values(), *self._cared.values()}

    def _note_end(self, ref: InstanceRef, ending: asyncio.Future[bool]) -> None:
        self._held.pop(ref, None)
        error = ending.exception()
        if error is None:
            self._journal.ended(ref)
        else:
            self._lost[ref] = error

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
        why = "".join(f"; {text}" for text in dict.fromkeys(_why(self._lost.values())))
        ways = " or ".join(f"sweep(prefix={name!r})" for name in _some([ref.name for ref in refs], names))
        error = CustodyError(
            f"may still be running, and billing: {', '.join(things)}{why}. "
            f"To end it: {'sweep()' if self._journal.path else ways}, with dry_run=False, in a new session"
        )
        error.refs, error.names = refs, names
        log.error("%s", error)
        if at_once and log.hasHandlers():  # without one, logging itself has just written it to stderr
            sys.stderr.write(f"aiofluence: {error}\n")
        return error


def _why(errors: Iterable[BaseException]) -> Iterable[str]:
    return (str(error) for error in errors if isinstance(error, FluenceError))


def _some(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))[:5]
