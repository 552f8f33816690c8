"""Runs what a command does: in a session of its own, until it is done, fails, or is interrupted.

Says what custody does when something is given up, and turns whatever happens into an exit code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import typer

import aiofluence

from .exits import FAILED, INTERRUPTED, REACHED, CommandError, explain, how_to_end
from .output import note

Command: TypeAlias = "Callable[[aiofluence.Session], Awaitable[int | None]]"
"""What a command does in a session; gives its exit code, None for 0."""

_LISTED: Final = 8


def execute(command: Command, *, journal: Path | None = None) -> None:
    """Run `command` and leave with its exit code.

    Raises:
        typer.Exit: always.
    """
    raise typer.Exit(run_in_session(command, journal=journal))


def run_in_session(command: Command, *, journal: Path | None = None) -> int:
    """Run `command` and give its exit code. SIGTERM is treated as Ctrl-C is, and ends the process."""
    try:
        return aiofluence.run(_in_session(command, journal))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (aiofluence.FluenceError, CommandError, OSError, ExceptionGroup) as error:
        return explain(error)


async def _in_session(command: Command, journal: Path | None) -> int:
    session = aiofluence.Session(journal=journal, user_agent_suffix="cli")
    ending: list[str] = []
    interrupted = False
    try:
        async with session as fluence:
            try:
                return await command(fluence) or REACHED
            except asyncio.CancelledError:
                interrupted = True
                raise
            finally:
                ending = _tell_of_custody(fluence.custody, interrupted)
    finally:
        custody = session.custody
        left = custody.ending or custody.lost or custody.deploying or custody.uncertain
        begun = "Interrupted: " if interrupted else ""
        if ending and not left:
            note(f"{begun}{listed(ending)} ended, nothing of it is left running.")
        elif interrupted:
            refs = [ref.id for ref in (*custody.ending, *custody.lost)]
            ways = [*how_to_end(refs, [*custody.deploying, *custody.uncertain])]
            note("Interrupted. End what is left with:" if ways else "Interrupted.")
            for way in ways:
                note(way)


def _tell_of_custody(custody: aiofluence.Custody, interrupted: bool) -> list[str]:
    """Say what the session will see to before it closes; gives the names of what it ends."""
    names = list(dict.fromkeys((*(ref.name for ref in custody.ending), *custody.deploying)))
    if names:
        note(f"Ending {listed(names)}. What is not ACTIVE yet cannot be ended, so this waits until it is.")
    if custody.watching:
        watched = listed(list(dict.fromkeys(custody.watching)))
        note(f"A deploy's answer was lost, so this watches a few minutes for a late twin of {watched}.")
    if interrupted and (names or custody.watching):
        note("A second Ctrl-C leaves at once, and what runs then goes on running.")
    return names


def listed(names: Sequence[str]) -> str:
    """Names as a person would list them, the first few of many."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def worst(*codes: int) -> int:
    """One exit code for several outcomes: 0 if all are, the one they share, else 1."""
    bad = {code for code in codes if code != REACHED}
    return REACHED if not bad else bad.pop() if len(bad) == 1 else FAILED
