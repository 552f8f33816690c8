"""What a container says: log lines and cluster events, parsed from the strings the service sends.

Parsing only; a line that fits no known form is kept raw. Following a log over time is `tail`'s work.
"""

from __future__ import annotations

import re
from typing import Self

import attrs

from .values import EventType

__all__ = ["Event", "LogLine"]

# The guide prints `[pod] text`, the console `[pod]: text`; a pod's name holds neither blanks nor brackets.
_LOG = re.compile(r"\[([^\]\s]+)\]:? ?(.*)", re.DOTALL)
# `[object]: [Normal] [Scheduled] [Pod] message`; the guide's examples lack `[Kind]`.
_EVENT = re.compile(
    r"\[([^\]]+)\]:? +\[(Normal|Warning)\] +\[([^\]\s]+)\] +(?:\[([A-Za-z]+)\] +)?(.*)", re.DOTALL
)


@attrs.frozen
class LogLine:
    """One line of a container's output, stdout and stderr mixed; the service sends no time with it.

    Attributes:
        raw: the line exactly as it came.
        pod: the pod that wrote it, None when the line names none.
        text: the line without the pod.
    """

    raw: str
    pod: str | None
    text: str

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read `"[pod] text"` or `"[pod]: text"`; anything else is all text."""
        match = _LOG.fullmatch(raw)
        return cls(raw, match[1], match[2]) if match else cls(raw, None, raw)

    def __str__(self) -> str:
        return self.raw


@attrs.frozen
class Event:
    """One event of the cluster; the service sends no time with it, and orders them by object, not time.

    Attributes:
        raw: the event exactly as it came.
        object: name of the object it is about.
        type: Normal or Warning.
        reason: such as `Scheduled`, `Pulled`, `BackOff`.
        kind: such as `Pod`; None where the line names none.
        message: the rest, or the whole line when it fits no known form (then the others are None).
    """

    raw: str
    object: str | None
    type: EventType | None
    reason: str | None
    kind: str | None
    message: str

    @classmethod
    def parse(cls, raw: str) -> Self:
        """Read `"[object]: [type] [reason] [kind] message"`, with or without the kind."""
        match = _EVENT.fullmatch(raw)
        if match is None:
            return cls(raw, None, None, None, None, raw)
        return cls(raw, match[1], EventType(match[2]), match[3], match[4], match[5])

    def __str__(self) -> str:
        return self.raw
