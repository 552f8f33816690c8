"""Tables from the rows of a list.

Unreadable rows are left out of a table. Its `left_out` and one warning in the log report them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime
from typing import Final, TypeVar

from ..display.table import Table
from ..http.codec import structure_rows
from ..http.messages import Answer
from ..http.transport import Transport
from ..models.values import Kind

T = TypeVar("T")

log: Final = logging.getLogger("aiofluence")


def read_table(
    transport: Transport,
    answer: Answer,
    item: type[T],
    *,
    under: Kind | None = None,
    field: str | None = None,
    nested: Collection[str] = (),
    at: datetime | None = None,
) -> Table[T]:
    """Return the readable rows of `answer`. `left_out` has an error for each other row.

    Args:
        transport: transport of the session. All views of the session share its warnings.
        answer: decoded answer of a list.
        item: model of one row.
        under: as in `structure_rows`, like `field` and `nested`.
        at: service's time of the answer.

    Raises:
        DecodeError: the answer is no list, or none of its rows is readable.
    """
    rows, odd = structure_rows(answer, item, under=under, field=field, nested=nested)
    if odd and not rows:
        raise odd[0]  # an empty table would mean an account without instances
    if odd:
        warn_once(transport, str(answer.call), f"left out {len(odd)} rows; the first: {odd[0].args[0]}")
    return Table(rows, at=at, left_out=odd)


def warn_once(transport: Transport, where: str, message: str) -> None:
    """Log a warning about `where`, once per session."""
    if where not in transport.warned:
        transport.warned.add(where)
        log.warning("%s: %s", where, message)
