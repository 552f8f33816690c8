"""`logs` and `events`: the output of containers, and the cluster's events about one, once or as they arrive.

`tail` joins the lines, and `log_files` continues the files of an earlier run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import aiofluence

from ...models.values import Kind
from ..arguments import Option
from ..console import note, print_json_line, say
from ..exit_codes import USAGE, CommandError
from ..json_output import event_shape, line_shape
from ..lookup import find_all, find_one
from ..options import FollowOption, JsonOption, LastOption, NameArgument, NamesArgument
from ..runner import execute

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ...models.instances import InstanceRef
    from ...models.logs import Event, LogGap, LogLine

_FOLLOWED_FROM: Final = 100
"""Number of existing lines with which a followed log begins."""
_FILED_FROM: Final = 1000
"""The same for a log that is written to a file, which may continue an older file."""


def logs(
    names: NamesArgument,
    follow: FollowOption = False,
    last: LastOption = None,
    output_dir: Annotated[
        Path | None,
        Option(metavar="DIR", help="Write a file per container there; a later run continues the files."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the logs of containers, oldest line first.

    With -f, continue until they have ended, and print a gap where lines may be missing. With --json, print
    one object per line.

    Examples:
        aiofluence logs exp-1 --last 20
        aiofluence logs -f 'exp-*' --output-dir logs/
    """

    async def show(fluence: aiofluence.Session) -> None:
        refs = _containers(await find_all(fluence, names))
        if output_dir is not None:
            from ..log_files import LogFiles

            note(f"Writing {len(refs)} log{'s' * (len(refs) != 1)} to {output_dir}")
            with LogFiles(output_dir, refs) as files:
                await each_line(fluence, refs, _FILED_FROM, files.write)
        else:
            several = len(refs) > 1
            await each_line(
                fluence, refs, _FOLLOWED_FROM, lambda ref, line: _show_line(ref, line, as_json, several)
            )

    async def each_line(
        fluence: aiofluence.Session,
        refs: Sequence[InstanceRef],
        usual: int,
        take: Callable[[InstanceRef, LogLine | LogGap], None],
    ) -> None:
        if follow:
            async for tagged in fluence.tail_all(refs, last=last or usual):
                take(tagged.ref, tagged.line)
            return
        for ref in refs:
            for line in await fluence.containers.logs(ref.id, last=last):
                take(ref, line)

    execute(show)


def events(
    name: NameArgument, follow: FollowOption = False, last: LastOption = None, as_json: JsonOption = False
) -> None:
    """Print the cluster's events about a container.

    The service does not order them by time. With -f, print all of them, then each new one until the container
    has ended. With --json, print one object per line.
    """

    async def show(fluence: aiofluence.Session) -> None:
        (ref,) = _containers([await find_one(fluence, name)])
        if follow:
            async for event in fluence.tail_events(ref):
                _show_event(event, as_json)
            return
        found = await fluence.containers.events(ref.id, last=last)
        for event in found:
            _show_event(event, as_json)
        if not found:
            note("The cluster has no events now. It forgets them after a while.")

    execute(show)


def _show_line(ref: InstanceRef, line: LogLine | LogGap, as_json: bool, several: bool) -> None:
    if as_json:
        print_json_line(line_shape(ref, line))
        return
    text = str(line) if isinstance(line, aiofluence.LogGap) else line.text
    say(f"{ref.name}: {text}" if several else text)


def _show_event(event: Event, as_json: bool) -> None:
    if as_json:
        print_json_line(event_shape(event))
    else:
        say(f"{event.type or '-':<8}{event.reason or '-':<18}{event.object or '-'}: {event.message}")


def _containers(refs: Sequence[InstanceRef]) -> Sequence[InstanceRef]:
    machines = [str(ref) for ref in refs if ref.kind is not Kind.CONTAINER]
    if machines:
        raise CommandError(f"only containers have logs and events, not {', '.join(machines)}", USAGE)
    return refs
