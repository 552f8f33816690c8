"""`aiofluence demo`: starts the simulator and a session, and plays the script.

This module handles exit codes, Ctrl-C and errors. `demo_script` contains the acts.
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
from .demo_script import UPDATE_INTERVAL, Story, count_live
from .displays import choose_display
from .exit_codes import explain
from .live import Display

PROFILE: Final = Profile.of(DEFAULT_PROFILE).replace(cluster={"log_interval": 6.0})
"""Fewer log lines than usual, since simulated time runs fast."""


def demo(speed: float, seed: int, *, run_commands: bool = False) -> int:
    """Run the demo and return the exit code: 0, 1 after a failure, 130 after Ctrl-C or SIGTERM."""
    try:
        return run(_run(speed, seed, run_commands))
    except KeyboardInterrupt:
        # Ctrl-C before the launch, or a second one: the simulated cloud ends with this process.
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
                        display.say("An instance that is not ACTIVE yet cannot be terminated, so this waits.")
                        story.hurry()
                        raise
                    finally:
                        await story.give_back()
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            # The closed session has ended everything, unless a second Ctrl-C cut that short. So count again.
            async with _session(server) as session:
                left = await count_live(session)
            gone = "everything is terminated" if left == 0 else "not everything is terminated"
            display.say(f"Interrupted: {gone}, {left} left running.")
            return 130
    return 0


@contextmanager
def warnings_shown(display: Display) -> Iterator[None]:
    """Show the library's warnings as part of the demo."""
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
        # In simulated time, the usual 10 seconds would be minutes, and 10 requests per second very few.
        poll=Poll(interval=min(UPDATE_INTERVAL, 10 / server.time_scale)),
        rate=RateLimit(per_second=200, burst=100),
    )
