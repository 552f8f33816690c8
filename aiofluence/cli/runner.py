"""Running of a command in a session of its own, until it is done, fails, or is interrupted.

Reports the clean-up by custody, and turns every outcome into an exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import typer

import aiofluence

from .clean_up import CleanUp
from .console import listed, note
from .exit_codes import FAILED, INTERRUPTED, REACHED, CommandError, explain, how_to_end

Command: TypeAlias = "Callable[[aiofluence.Session], Awaitable[int | None]]"
"""The work of a command in a session. Returns its exit code; None for 0."""


def execute(command: Command, *, journal: Path | None = None) -> None:
    """Run `command` and exit with its exit code.

    Raises:
        typer.Exit: always.
    """
    raise typer.Exit(run_in_session(command, journal=journal))


def run_in_session(command: Command, *, journal: Path | None = None) -> int:
    """Run `command` and return its exit code. SIGTERM has the effect of Ctrl-C, and ends the process."""
    log = logging.getLogger("aiofluence")
    log.addFilter(_is_not_shown_here)
    try:
        return aiofluence.run(_in_session(command, journal))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (aiofluence.FluenceError, CommandError, OSError, ExceptionGroup) as error:
        return explain(error, journal=journal)
    finally:
        log.removeFilter(_is_not_shown_here)


def _is_not_shown_here(record: logging.LogRecord) -> bool:
    """Return True if a log record is not about the clean-up, which the command reports itself."""
    return not (record.module == "custody" and record.funcName in ("drain", "_report"))


async def _in_session(command: Command, journal: Path | None) -> int:
    session = aiofluence.Session(journal=journal, user_agent_suffix="cli")
    ending: list[str] = []
    interrupted = False
    clean_up: asyncio.Task[None] | None = None
    try:
        async with session as fluence:
            try:
                return await command(fluence) or REACHED
            except asyncio.CancelledError:
                interrupted = True
                raise
            finally:
                ending = _tell_of_custody(fluence.custody, interrupted)
                shown = CleanUp(lambda: session.custody, interrupted)
                clean_up = asyncio.ensure_future(shown.show())
    finally:
        if clean_up is not None:
            clean_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([clean_up])
        _tell_the_end(session.custody, ending, interrupted, journal)


def _tell_of_custody(custody: aiofluence.Custody, interrupted: bool) -> list[str]:
    """Print what the session will end or watch before it closes, and return the names of what it ends."""
    names = list(dict.fromkeys((*(ref.name for ref in custody.ending), *custody.deploying)))
    if names:
        note(f"Ending {listed(names)}. What is not ACTIVE yet cannot be ended, so this waits until it is.")
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
