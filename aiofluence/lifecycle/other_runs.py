"""Entries of other runs in a journal, as far as it was read.

The index of `Claims` has them, too. Here they are found by the prefix of their lines. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from .intents import HANDED_OVER, Claims, Intent
from .journal_lines import Account, Lines, head_of, read


class OtherRuns:
    """Open and handed-over entries of other runs.

    Args:
        own: number of this session's run.
        origin: URL of the service.
        account: account of this session.
        claims: the index to keep up to date.
    """

    def __init__(self, own: str, origin: str, account: Account, claims: Claims) -> None:
        self._own: Final = b'{"run": "%b"' % own.encode()
        self._origin = origin
        self._account = account
        self._claims = claims
        self._intents: dict[bytes, Intent] = {}

    @property
    def known(self) -> Collection[bytes]:
        """The prefixes of their lines."""
        return self._intents

    @property
    def foreign(self) -> int:
        """Number of open entries of another account or another service."""
        return sum(intent.open and intent.account_is_ours is False for intent in self._intents.values())

    def left(self, is_at_work: Callable[[str], bool]) -> list[Intent]:
        """List the open entries of this account whose runs are not at work."""
        works: dict[str, bool] = {}
        left = []
        for intent in self._intents.values():
            if intent.open and intent.account_is_ours is not False:
                if intent.run not in works:
                    works[intent.run] = is_at_work(intent.run)
                if not works[intent.run]:
                    left.append(intent)
        return left

    def now(self, intent: Intent) -> Intent | None:
        """Return the entry as last read. None if it is over. A rewritten file makes new objects."""
        return self._intents.get(head_of(intent.run, intent.number))

    def learn_all(self, lines: Lines) -> None:
        """Read lines of any entries."""
        for head in lines.over:
            self.learn(head, None)
        for head, of_one in lines.kept.items():
            self.learn(head, of_one)

    def learn(self, head: bytes, lines: list[bytes] | None) -> None:
        """Read lines of one entry. None as `lines` if the entry is over."""
        if head.startswith(self._own):
            return
        intent = self._intents.pop(head, None)
        if intent is not None:
            self._claims.discard(intent)
        if lines is not None:
            intent = read(intent, lines, self._origin, self._account)
            if intent is not None and (intent.open or intent.state == HANDED_OVER):
                self._intents[head] = intent
                self._claims.add(intent)

    def forget(self) -> None:
        """Forget all entries: the file is read again from its start."""
        for intent in self._intents.values():
            self._claims.discard(intent)
        self._intents.clear()
