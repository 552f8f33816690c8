"""Custody: what was paid for and has no owner any more is seen gone, whoever was cancelled meanwhile.

Between the POST and the moment the caller holds the instance, the session holds it. This module ends
things and keeps count of what is not ended yet; it never creates any.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from ..errors import CustodyError, FluenceError
from ..models.instances import InstanceRef
from .tasks import TaskHome
from .wait import Waiter

log: Final = logging.getLogger("aiofluence")


class Custodian:
    """Ends what it is given, in tasks of the session, until the session has waited for the last."""

    def __init__(self, home: TaskHome, waiter: Waiter) -> None:
        self._home = home
        self._waiter = waiter
        self._held: dict[InstanceRef, asyncio.Future[None]] = {}
        self._deploys: set[asyncio.Future[Any]] = set()
        self._watches: set[asyncio.Future[Any]] = set()
        self._lost: dict[InstanceRef, FluenceError] = {}

    def take(self, ref: InstanceRef) -> None:
        """See `ref` gone, in the background. Taking it twice is taking it once."""
        if ref not in self._held:
            self._lost.pop(ref, None)
            ending = self._held[ref] = self._home.spawn(self._end(ref))
            ending.add_done_callback(lambda _: self._held.pop(ref, None))

    async def see_gone(self, ref: InstanceRef) -> None:
        """Take `ref`, and wait until it is gone. A cancelled caller leaves; the custodian goes on.

        Raises:
            AuthError: the key is not, or no longer, good.
        """
        self.take(ref)
        await asyncio.shield(self._held[ref])

    def expect(self, deploy: asyncio.Future[Any]) -> None:
        """Wait for `deploy`, too, before the session closes: its caller may be gone by then."""
        self._deploys.add(deploy)
        deploy.add_done_callback(self._deploys.discard)

    def let_watch(self, watch: asyncio.Future[Any]) -> None:
        """Give `watch`, which looks for what a deploy may have left, time before the session closes.

        Cut short, it leaves nothing that is known of, so that is no error.
        """
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)

    async def drain(self, timeout: float) -> None:
        """Wait until everything is gone, at most `timeout` seconds.

        Raises:
            CustodyError: something may still be running; `.refs` says what.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        try:
            while pending := {*self._deploys, *self._watches, *self._held.values()}:
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await asyncio.wait(pending, timeout=left)
        except asyncio.CancelledError:
            # A second Ctrl-C: the caller leaves at once, but not without a word.
            self._report()
            raise
        if self._watches:
            log.warning("closed while %d deploy(s) were still watched for late twins", len(self._watches))
        error = self._report()
        if error is not None:
            raise error

    def _report(self) -> CustodyError | None:
        """What may still be running, logged; None when nothing is."""
        refs = (*self._lost, *self._held)
        things = [str(ref) for ref in refs]
        if self._deploys:
            things.append(f"{len(self._deploys)} deploy(s) whose outcome is not known")
        if not things:
            return None
        why = "".join(f"; {error}" for error in dict.fromkeys(map(str, self._lost.values())))
        error = CustodyError(f"may still be running, and billing: {', '.join(things)}{why}")
        error.refs = refs
        log.error("%s", error)
        return error

    async def _end(self, ref: InstanceRef) -> None:
        try:
            await self._waiter.end(ref, None)
        except FluenceError as error:
            self._lost[ref] = error
            raise
