"""Running of a command in a session of its own, until it is done, fails, or is interrupted.

Reports the clean-up by custody, and turns every outcome into an exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import aiofluence

from .arguments import Exit
from .console import listed, note
from .exit_codes import FAILED, INTERRUPTED, REACHED, TIMED_OUT, CommandError, explain, how_to_end
from .profiles import access

if TYPE_CHECKING:
    from ..http.messages import Call
    from ..http.transport import OnReply

Command: TypeAlias = "Callable[[aiofluence.Session], Awaitable[int | None]]"
"""The work of a command in a session. Returns its exit code; None for 0."""


_NOTICE: Final = 2.5
"""Seconds without any reply after which a command says that it is still trying."""
_PATIENCE: Final = 60.0
"""Seconds without any reply after which a command gives up."""


def execute(command: Command, *, journal: Path | None = None, on_reply: OnReply | None = None) -> None:
    """Run `command` and exit with its exit code. `on_reply` sees every reply.

    Raises:
        Exit: always.
    """
    raise Exit(run_in_session(command, journal=journal, on_reply=on_reply))


def run_in_session(
    command: Command,
    *,
    journal: Path | None = None,
    on_reply: OnReply | None = None,
    deploy: aiofluence.DeployPolicy | None = None,
) -> int:
    """Run `command` and return its exit code. SIGTERM has the effect of Ctrl-C, and ends the process."""
    log = logging.getLogger("aiofluence")
    log.addFilter(_is_not_shown_here)
    try:
        key, origin = access()
        from ..signals import run  # not `aiofluence.run`, which loads every public name

        return run(_in_session(command, key, origin, journal, on_reply, deploy))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (aiofluence.FluenceError, CommandError, OSError, ExceptionGroup) as error:
        return explain(error, journal=journal)
    finally:
        log.removeFilter(_is_not_shown_here)


def _is_not_shown_here(record: logging.LogRecord) -> bool:
    """Return True if a log record is not about the clean-up, which the command reports itself."""
    return not (record.module == "custody" and record.funcName in ("drain", "_report"))


async def _in_session(
    command: Command,
    key: str | None,
    origin: str | None,
    journal: Path | None,
    on_reply: OnReply | None,
    deploy: aiofluence.DeployPolicy | None,
) -> int:
    from ..config import find_origin
    from ..session import Session
    from .clean_up import CleanUp

    patience = _Patience(find_origin(origin, allow_insecure=False), on_reply)
    session = Session(
        key,
        base_url=origin,
        journal=journal,
        deploy=deploy,
        user_agent_suffix="cli",
        on_reply=patience.note,
    )
    del key
    ending: list[str] = []
    clean_up: asyncio.Task[None] | None = None
    task = asyncio.current_task()

    def is_interrupted() -> bool:
        return task is not None and task.cancelling() > 0

    try:
        async with session as fluence:
            try:
                return await patience.during(command(fluence)) or REACHED
            finally:
                ending = _tell_of_custody(fluence.custody, is_interrupted())
                shown = CleanUp(lambda: session.custody, is_interrupted)
                clean_up = asyncio.ensure_future(shown.show())
    finally:
        if clean_up is not None:
            clean_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([clean_up])
        _tell_the_end(session.custody, ending, is_interrupted(), journal)


class _Patience:
    """The time until the first reply: says soon that the command is still trying, and gives up in the end."""

    def __init__(self, origin: str, on_reply: OnReply | None) -> None:
        self._origin = origin
        self._on_reply = on_reply
        self._limit = asyncio.timeout(_PATIENCE)
        self._notice: asyncio.TimerHandle | None = None
        self._replied = False

    def note(self, call: Call, reply: aiofluence.Reply) -> None:
        """Note a reply, and pass it on."""
        if not self._replied and self._notice is not None:
            self._replied = True
            self._notice.cancel()
            self._limit.reschedule(None)
        if self._on_reply is not None:
            self._on_reply(call, reply)

    async def during(self, work: Awaitable[int | None]) -> int | None:
        """Do the work of a command.

        Raises:
            CommandError: no reply came in time.
        """
        loop = asyncio.get_running_loop()
        until = datetime.now() + timedelta(seconds=_PATIENCE)
        text = f"No reply from {self._origin} so far. Trying until {until:%H:%M:%S}; Ctrl-C gives up."
        self._notice = loop.call_later(_NOTICE, note, text)
        try:
            async with self._limit:
                return await work
        except TimeoutError:
            if not self._limit.expired():
                raise
        finally:
            self._notice.cancel()
        raise CommandError(f"no reply from {self._origin} within {_PATIENCE:.0f} s", TIMED_OUT)


def _tell_of_custody(custody: aiofluence.Custody, interrupted: bool) -> list[str]:
    """Print what the session will end or watch before it closes, and return the names of what it ends."""
    names = list(dict.fromkeys((*(ref.name for ref in custody.ending), *custody.deploying)))
    if names:
        note(f"Ending {listed(names)}. An instance that is not ACTIVE yet cannot be ended, so this waits.")
    if custody.watching:
        watched = listed(list(dict.fromkeys(custody.watching)))
        note(f"A deploy's reply was lost, so this watches a few minutes for a late duplicate of {watched}.")
    if interrupted and (names or custody.watching):
        note("A second Ctrl-C leaves at once. Instances that run then keep running, and billing.")
    return names


def _tell_the_end(
    custody: aiofluence.Custody, ending: Sequence[str], interrupted: bool, journal: Path | None
) -> None:
    """Print the result of the clean-up. For an interrupted command, add the commands that end the rest."""
    refs = list(dict.fromkeys((*custody.ending, *custody.lost)))
    names = list(dict.fromkeys((*custody.deploying, *custody.uncertain)))
    begun = "Interrupted: " if interrupted else ""
    if not (refs or names):
        if ending:
            note(f"{begun}{listed(ending)} ended, none is left running.")
        elif interrupted:
            note("Interrupted.")
        if custody.watching:
            watched = ", ".join(dict.fromkeys(custody.watching))
            note(f"Not watched any more for late duplicates: {watched}. Find them with: aiofluence ls")
    elif interrupted:  # otherwise a CustodyError reports them
        for line in how_to_end(refs, names, journal):
            note(line)


def worst(*codes: int) -> int:
    """Return one exit code for several outcomes: 0 if all are 0, the failure code they share, else 1."""
    bad = {code for code in codes if code != REACHED}
    return REACHED if not bad else bad.pop() if len(bad) == 1 else FAILED
