"""`logs` and `events`: what a container says, and what its cluster says about it; once, or as it comes.

Nothing is kept between two runs.
"""

from __future__ import annotations

import aiofluence

from ..models.instances import InstanceRef
from ..models.output import Event, LogLine
from ..models.values import Kind
from .exits import USAGE, CommandError
from .options import JsonOption, LastOption, NameArgument
from .output import print_json_line, say
from .resolve import find_one
from .running import execute
from .shapes import event_shape, line_shape


def logs(name: NameArgument, last: LastOption = None, as_json: JsonOption = False) -> None:
    """A container's output, oldest line first. With --json an object a line."""

    async def show(fluence: aiofluence.Session) -> None:
        ref = await _container(fluence, name)
        for line in await fluence.containers.logs(ref.id, last=last):
            show_line(line, as_json)

    execute(show)


def events(name: NameArgument, last: LastOption = None, as_json: JsonOption = False) -> None:
    """What the cluster says about a container.

    In the service's order, which is not that of time. With --json an object a line.
    """

    async def show(fluence: aiofluence.Session) -> None:
        ref = await _container(fluence, name)
        for event in await fluence.containers.events(ref.id, last=last):
            show_event(event, as_json)

    execute(show)


def show_line(line: LogLine, as_json: bool) -> None:
    """Print one line of a log."""
    if as_json:
        print_json_line(line_shape(line))
    else:
        say(line.text)


def show_event(event: Event, as_json: bool) -> None:
    """Print one event."""
    if as_json:
        print_json_line(event_shape(event))
    else:
        say(f"{event.type or '-':<8}{event.reason or '-':<18}{event.object or '-'}: {event.message}")


async def _container(fluence: aiofluence.Session, name: str) -> InstanceRef:
    ref = await find_one(fluence, name)
    if ref.kind is not Kind.CONTAINER:
        raise CommandError(f"{ref} has no logs and no events: only containers have", USAGE)
    return ref
