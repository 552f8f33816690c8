"""`aiofluence demo`: starts the simulated cloud and a session, and answers for how the story ends.

Exit codes, Ctrl-C and errors are its business; what happens in between is `story`'s.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .. import FluenceError, Poll, RateLimit, Session, run
from ..simulator import DEFAULT_PROFILE, LocalProcesses, Profile, Simulator, SimulatorServer
from .demo_script import LOOK_EVERY, Story, count_live
from .exit_codes import explain
from .live import Display, choose_display

PROFILE: Final = Profile.of(DEFAULT_PROFILE).replace(cluster={"log_interval": 6.0})
"""Fewer log lines than usual: in time-lapse they would rush past."""


def demo(speed: float, seed: int, *, run_commands: bool = False) -> int:
    """Run the demo; returns the exit code: 0, 1 when something failed, 130 on Ctrl-C or SIGTERM."""
    try:
        return run(_run(speed, seed, run_commands))
    except KeyboardInterrupt:
        # Before anything was launched, or a second Ctrl-C: the simulated cloud ends with this process.
        print("Interrupted; the simulated cloud is gone, and everything in it.", file=sys.stderr)
        return 130
    except (FluenceError, OSError, ExceptionGroup) as error:
        return explain(error, "aiofluence demo")


async def _run(speed: float, seed: int, run_commands: bool) -> int:
    simulator = Simulator(seed, api_key=secrets.token_urlsafe(), profile=PROFILE)
    processes = LocalProcesses() if run_commands else None
    async with SimulatorServer(simulator, time_scale=speed, processes=processes) as server:
        display = choose_display(server.now)
        try:
            with warnings_shown(display):
                async with _session(server) as session:
                    story = Story(session, server, display, run_commands=run_commands)
                    try:
                        await story.play()
                    except asyncio.CancelledError:
                        display.act("Ctrl-C: terminating what was launched")
                        display.say("What is not ACTIVE yet cannot be terminated, so this waits until it is.")
                        story.hurry()
                        raise
                    finally:
                        await story.give_back()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            # The session has closed, so everything is gone; unless a second Ctrl-C cut that short. Ask anew.
            async with _session(server) as session:
                left = await count_live(session)
            gone = "everything is terminated" if left == 0 else "not everything is terminated"
            display.say(f"Interrupted: {gone}, {left} left running.")
            return 130
    return 0


@contextmanager
def warnings_shown(display: Display) -> Iterator[None]:
    """Show the library's warnings as a part of the story."""
    log = logging.getLogger("aiofluence")
    log.addHandler(shown := _Shown(display))
    try:
        yield
    finally:
        log.removeHandler(shown)


class _Shown(logging.Handler):
    def __init__(self, display: Display) -> None:
        super().__init__(logging.WARNING)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(record.getMessage(), aside=True)


def _session(server: SimulatorServer) -> Session:
    return Session(
        server.simulator.api_key,
        base_url=server.url,
        # In time-lapse the usual 10 seconds would be minutes, and 10 requests a second a trickle.
        poll=Poll(interval=min(LOOK_EVERY, 10 / server.time_scale)),
        rate=RateLimit(per_second=200, burst=100),
    )
