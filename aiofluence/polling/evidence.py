"""Evidence in the service's replies: it proves that an instance is over, or it proves nothing.

Absence of evidence proves nothing: a 404, a gateway's page, an unknown status or a partial LIST leaves an
instance billing. Poller, waits, custody, deploys and sweeps all judge by this module. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Final

from ..models.values import Kind, Status

GRACE: Final = 60.0
"""Seconds for which a LIST may lack an instance that exists."""
_REFUSALS: Final = 3
"""Refusals in a row after which the key counts as refused."""
_REMEMBERED: Final = 256
"""Live ids per kind that a LIST is checked against."""


class Evidence:
    """Knowledge of one session about which instances live, and the judgements that follow from it.

    Attributes:
        grace: seconds for which a LIST may lack an instance that exists.
        replies: number of replies so far that showed an awaited instance, or a LIST for a deploy.
    """

    def __init__(self, grace: float) -> None:
        self.grace: Final = grace
        self.replies: int = 0
        self._live: dict[Kind, OrderedDict[str, float]] = {kind: OrderedDict() for kind in Kind}
        self._listeners: list[Callable[[str], None]] = []

    def on_over(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of each instance that is seen to be over."""
        self._listeners.append(listener)

    def saw(self, kind: Kind, id: str, status: Status, since: float) -> None:
        """Note that the service has shown an instance, which exists since loop time `since` at the latest."""
        self.replies += 1
        live = self._live[kind]
        if status.final:
            live.pop(id, None)
            for listener in self._listeners:
                listener(id)
        elif id not in live:
            live[id] = since
            if len(live) > _REMEMBERED:
                live.popitem(last=False)

    def is_complete(self, kind: Kind, ids: Container[str], asked: float) -> bool:
        """Return True if a LIST, requested at loop time `asked`, holds every instance that is known to live.

        Otherwise the LIST is one page of several.
        """
        self.replies += 1
        live = self._live[kind]
        return all(id in ids for id, since in live.items() if since <= asked - self.grace)

    def is_over(self, status: Status | None, asked: float, since: float) -> bool:
        """Return True if an instance that a complete LIST lacks is proven over.

        The account's LIST keeps even ended instances (contract 1). If this session has seen the instance
        live (`status`), a LIST without the instance is another account's, or is stale. The LIST was requested
        at loop time `asked`. The instance exists since `since`, if it ever did.
        """
        return asked - since >= self.grace if status is None else status.final


class KeyDoubt:
    """Count of replies 401 and 403 in a row: a single one may be a gateway's, and proves nothing.

    Replies to requests that were in flight together count as one.
    """

    def __init__(self) -> None:
        self._refusals = 0
        self._last = float("-inf")

    def accepted(self) -> None:
        """Note that the service took the key."""
        self._refusals = 0

    def refused(self, asked: float, now: float) -> bool:
        """Note a refusal that came at `now`, requested at `asked`. Return True if the key is refused."""
        if asked >= self._last:
            self._refusals += 1
            self._last = now
        return self._refusals >= _REFUSALS
