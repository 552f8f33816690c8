"""A random life of a log and its tail, for the property test. hypothesis draws the events of the log.

`store` is the server, and its judge knows the truth. This module is not a test.
"""

from __future__ import annotations

import attrs

from aiofluence import InvalidRequestError
from aiofluence.tail.stitch import Stitch
from aiofluence.tail.windows import Windows

from .store import TOO_LONG, Judge, Judgement, Store

REFUSED = InvalidRequestError("last is too large", status=422)


@attrs.frozen
class Write:
    """Append a block of lines, `times` times."""

    block: tuple[str, ...]
    times: int = 1
    pod: int = 0


@attrs.frozen
class Grow:
    """Lengthen the last line."""

    pod: int = 0


@attrs.frozen
class Rotate:
    """Drop all lines except the newest `keep`, as a restart or a rotation does. Later lines are new."""

    keep: int
    pod: int = 0
    head: bool = True  # write a unique line first


@attrs.frozen
class Swap:
    """Remove a pod, and start another one in its place."""

    pod: int = 0


@attrs.frozen
class TooLong:
    """Append a line that is so long that it ends the answer."""

    pod: int = 0


@attrs.frozen
class Again:
    """Append the newest `lines` lines again, `times` times, each time after `head` unless empty."""

    lines: int
    times: int = 1
    head: str = ""
    pod: int = 0


Event = Write | Again | Grow | Rotate | Swap | TooLong


@attrs.frozen
class Poll:
    """A poll: the events before it and during it (after its first answer), and the server's faults.

    Attributes:
        wait: seconds by which the poll is late, as after an outage.
    """

    before: tuple[Event, ...] = ()
    during: tuple[Event, ...] = ()
    stale: int = 0
    empty: bool = False
    failed: bool = False
    wait: float = 0.0


def live(store: Store, named: bool, pods: int, last: int, polls: list[Poll]) -> Judgement:
    """Follow the log through all its polls until its end."""
    stitch, judge = Stitch(last), Judge(store)
    names: list[str | None] = [f"web-{number}" if named else None for number in range(pods if named else 1)]
    unique = 0

    def act(event: Event) -> None:
        nonlocal unique
        place = event.pod % len(names)
        name = names[place]
        unique += 1
        if isinstance(event, Write):
            for _ in range(event.times):
                for text in event.block:
                    unique += 1
                    store.write(text.replace("#", f"{unique};"), name)  # no such line is a prefix of another
        elif isinstance(event, Again):
            log = store.pods.get(name)
            texts = [line.text for line in log.lines[log.base :][-event.lines :]] if log else []
            for _ in range(event.times):
                unique += 1
                for text in (*([event.head.replace("#", f"{unique};")] if event.head else []), *texts):
                    store.write(text, name)
        elif isinstance(event, Grow):
            store.grow(f"+{unique};", name)
        elif isinstance(event, Rotate):
            store.rotate(event.keep, name)
            if event.head:
                store.write(f"<began {unique}>", name)
        elif isinstance(event, Swap):
            if name is not None:
                store.remove(name)
                names[place] = f"web-{unique}"
                store.write("hello", names[place])
        else:
            store.write("w" * (TOO_LONG + 1) + str(unique), name)

    now, windows = 0.0, Windows()
    for number, poll in enumerate([*polls, Poll()]):
        ending = number == len(polls)
        for event in poll.before:
            act(event)
        now += poll.wait
        for fetch in range(100):
            store.snapshot(now)
            asked = windows.nearest(stitch.ask, now)
            if poll.failed and not fetch:
                break
            if store.refuses(asked):
                if not windows.refuses(asked, REFUSED, now):
                    break
                continue
            lines = [] if poll.empty and not fetch else store.fetch(asked, stale=0 if fetch else poll.stale)
            windows.answered(asked)
            limited = windows.is_widest(asked)
            step = stitch.take(lines, asked, now, ending=ending, limited=limited, numbered=windows.numbered)
            judge.see(step.items)
            if not step.at_once:
                break
            if fetch == 0:
                for event in poll.during:
                    act(event)
            now += 0.1
        else:
            raise AssertionError("a poll that never ends")
        now += stitch.interval
    return judge.finish(stitch.finish())
