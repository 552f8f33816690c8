"""The windows that the service answers: `last` may be refused above a limit, or when it is missing.

Learned from refusals, so that no refused request is repeated for ever. Asks nothing itself.
"""

from __future__ import annotations

import math

from ..errors import DecodeError, FluenceError, InvalidRequestError, RefusedError, ReplyError

__all__ = ["Windows"]

_NARROW = 16
"""A window that is refused only if the refusal has nothing to do with windows."""
_UNLIMITED = 1 << 17
"""Lines that are asked for by number at most, where a request without `last` is refused."""
_FORGET = 600.0
"""Seconds after which a refused window is tried again; then twice as long. Gateways refuse at random, too."""
_SIZES = frozenset({413, 414, 416})
"""Statuses about the size of a request or a reply."""


class Windows:
    """Knowledge of one tail about the windows of one container."""

    def __init__(self) -> None:
        self._answered = 0  # the widest window by number that was answered
        self._refused = _UNLIMITED  # the narrowest that was refused
        self._whole = True  # requests without `last` are answered
        self._try_again = math.inf
        self._pause = _FORGET
        self._in_doubt = False  # there was no answer since the last refusal

    def nearest(self, wanted: int | None, now: float) -> int | None:
        """The window to ask for in place of `wanted`; None is a request without `last`."""
        if now >= self._try_again:
            self._forget()
        if wanted is not None and wanted < self._refused:
            return wanted
        if self._whole:
            return None
        if self._in_doubt:
            return self._answered or _NARROW  # this one shows whether the refusal is about the window
        return max(self._answered, (self._answered + self._refused) // 2)

    def is_widest(self, asked: int | None) -> bool:
        """Whether no wider window than `asked` is answered."""
        return asked is not None and not self._whole and asked >= self._refused - 1

    @property
    def numbered(self) -> int:
        """The widest window by number that was answered, where wider ones are refused; 0: none is."""
        return (self._answered or _NARROW) if self._refused < _UNLIMITED else 0

    def answered(self, asked: int | None) -> None:
        """Notice an answer."""
        self._in_doubt = False
        if asked is not None:
            self._answered = max(self._answered, asked)

    def refuses(self, asked: int | None, error: FluenceError, now: float) -> bool:
        """Whether `error` refuses the window `asked`, so that another one is worth a request at once."""
        fine = asked is not None and asked <= max(self._answered, _NARROW)
        if fine or not _is_about_window(error):
            if self._in_doubt:
                self._forget()  # the service refuses everything: it is about something else
            return False
        if self._try_again == math.inf:
            self._try_again, self._pause = now + self._pause, self._pause * 2
        self._in_doubt = True
        if asked is None:
            self._whole = False
        else:
            self._refused = asked
        return True

    def _forget(self) -> None:
        self._refused, self._whole, self._try_again, self._in_doubt = _UNLIMITED, True, math.inf, False


def _is_about_window(error: FluenceError) -> bool:
    if isinstance(error, DecodeError):
        return not getattr(error, "status", 0)  # a reply too large to be read
    if isinstance(error, ReplyError) and error.status in _SIZES:
        return True
    return isinstance(error, InvalidRequestError) or type(error) is RefusedError
