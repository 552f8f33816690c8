"""The event loop, thread and process that one session belongs to; use from any other is refused at once.

A future of one loop that another loop awaits is never woken: without the check a foreign caller hangs, and
what was bought for it is lost. Knows no session, and closes nothing.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final
from weakref import WeakSet

from .errors import ConfigError


class Owner:
    """The owner of one session: settled by `open` or by the first call, and for good.

    Attributes:
        loop: the event loop; None until it is settled, and again in a forked child.
        is_forked: this process is a forked child of the session's own.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.is_forked: bool = False

    def check(self) -> None:
        """Refuse a caller that runs anywhere but in the session's event loop.

        Raises:
            ConfigError: it does; nothing was sent.
        """
        running = asyncio._get_running_loop()
        if running is not self.loop or running is None:
            self.settle(running)

    def settle(self, running: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop:
        """Make `running` the session's event loop, if it has none yet; gives it.

        Raises:
            ConfigError: it has another, or `running` is none of asyncio's.
        """
        if self.is_forked:
            raise forked()
        if running is None:
            raise _no_loop()
        if self.loop is None:
            self.loop = running
            _owners.add(self)
        if running is not self.loop:
            raise ConfigError(
                "this session belongs to another event loop. Nothing was sent. Use a session in the loop and "
                "the thread in which it was opened (asyncio.run_coroutine_threadsafe leads there), or make a "
                "new one"
            )
        return running

    def _disown(self) -> None:
        self.loop = None
        self.is_forked = True


def loop_time() -> float:
    """The time of the running event loop.

    Raises:
        ConfigError: none runs here, as in a forked child and under trio.
    """
    running = asyncio._get_running_loop()
    if running is None:
        raise _no_loop()
    return running.time()


def forked() -> ConfigError:
    """The refusal in a forked child."""
    return ConfigError(
        "this session belongs to the parent process, which still holds it, and its instances with it. "
        "Nothing was sent. Make a session of its own in the forked child"
    )


def _no_loop() -> ConfigError:
    return ConfigError(
        "a session runs on asyncio, and no asyncio event loop runs here. Nothing was sent. In a forked child "
        "make a session of its own; under trio use aiofluence.sync.Session in a thread "
        "(trio.to_thread.run_sync)"
    )


_owners: Final[WeakSet[Owner]] = WeakSet()
"""Those that are settled. For the fork alone: a child that goes on in its parent's loop has no other sign."""


def _disown_all() -> None:
    for owner in tuple(_owners):
        owner._disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
