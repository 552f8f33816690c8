"""Drift: what a reply of the service has and the contract lacks, reported once per session.

Only a session with `on_drift` or `FLUENCE_LOG=info` has a `DriftWatch`. It changes no reply, and no report
quotes a value other than an enum value or the text of a refusal.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Literal, TypeAlias

import attrs

from ..errors import DecodeError, RefusedError, ReplyError
from ..http.messages import Call, Reply, decode, decode_rows, has_service_format, refusal
from .shapes import SHAPES, differences, fits, operation_of

log: Final = logging.getLogger("aiofluence")

DriftKind: TypeAlias = Literal["field", "value", "type", "status", "refusal", "format"]
_ROWS: Final = 50
"""Rows of a list that are compared: the newest, as the service lists them."""
_KINDS: Final[dict[str, DriftKind]] = {"unknown field": "field", "value": "value", "type": "type"}

# Statuses of contract 1 and 8. A success without a body is 204.
_KNOWN_ERRORS: Final = frozenset({400, 401, 403, 404, 422, 429, 500, 502, 503, 504})


@attrs.frozen
class Drift:
    """A difference between the service and the contract that this version of the library knows.

    Attributes:
        kind: an unknown field, an unknown enum value, another type, an unknown status, the text of a refusal
            that has no error class, or a reply format.
        operation: method and path, with `{id}` in place of an id.
        place: place in the body, such as `$[].billing.credits`. Empty if the difference is not in a body.
        observed: type of the field, enum value, status, or text with `…` in place of numbers and quotes.
    """

    kind: DriftKind
    operation: str
    place: str
    observed: str

    def __str__(self) -> str:
        place = f" at {self.place}" if self.place else ""
        return f"{self.operation}: unknown {self.kind}{place}: {self.observed}"


OnDrift: TypeAlias = Callable[[Drift], object]
"""Function called with each drift, once per session and difference. Its exceptions are only logged."""


class DriftWatch:
    """Compares each reply of a session with the contract, and reports each difference once."""

    def __init__(self, on_drift: OnDrift | None) -> None:
        self._on_drift = on_drift
        self._reported: set[Drift] = set()

    def __call__(self, call: Call, reply: Reply) -> None:
        """Report the new differences of one reply. Raises nothing: a report must not cost a reply."""
        for drift in drifts(call, reply):
            if drift in self._reported:
                continue
            self._reported.add(drift)
            log.info("not in the contract: %s", drift)
            if self._on_drift is not None:
                try:
                    self._on_drift(drift)
                except Exception:  # a failing observer must not cost the id of an instance
                    log.exception("on_drift failed")


def drifts(call: Call, reply: Reply) -> Iterator[Drift]:
    """Iterate over the differences between a reply and the contract."""
    operation = operation_of(call.method, call.path)
    if operation not in SHAPES:
        return  # `Session.request` may use endpoints of its own
    if not 200 <= reply.status < 300:
        yield from _of_refusal(call, operation, reply)
        return
    if (shape := SHAPES[operation]) is None:
        if reply.status != 204:
            yield Drift("status", operation, "", str(reply.status))
        return
    if call.method == "GET" and reply.status != 200:
        yield Drift("status", operation, "", str(reply.status))
    try:
        # Part of a list, because a list of 10,000 instances would block the event loop.
        is_list = isinstance(shape, list)
        value = list(islice(decode_rows(call, reply), _ROWS)) if is_list else decode(call, reply)
    except DecodeError:
        yield Drift("format", operation, "$", f"not this JSON, {_content_type(reply)}")
        return
    if fits(shape, value):
        return
    for difference in differences(shape, value):
        if (kind := _KINDS.get(difference.problem)) is not None:
            yield Drift(kind, operation, difference.path, difference.observed)


def _of_refusal(call: Call, operation: str, reply: Reply) -> Iterator[Drift]:
    if reply.status not in _KNOWN_ERRORS:
        yield Drift("status", operation, "", str(reply.status))
    elif not has_service_format(reply):
        yield Drift("format", operation, "$", f"{reply.status} with {_content_type(reply)}")
    elif reply.status == 400:
        error = refusal(call, reply)
        if isinstance(error, ReplyError) and type(error) in (RefusedError, ReplyError):
            yield Drift("refusal", operation, "$.detail", without_values(error.detail))


def _content_type(reply: Reply) -> str:
    found = next((value for name, value in reply.headers.items() if name.lower() == "content-type"), "")
    kind = found.partition(";")[0].strip().lower()
    return kind if re.fullmatch(r"[a-z]+/[a-z+.-]+", kind) else "no content type"


def without_values(text: str) -> str:
    """Return the text of a refusal with `…` in place of its quotes, ids, addresses and numbers."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\S*[\d@/]\S*", "…", text)[:200]
