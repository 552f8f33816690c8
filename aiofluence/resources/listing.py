"""A LIST of instances: its raw rows, and the evidence that it is complete.

Reads a reply; sends no request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from ..http.messages import Call, Json, Reply, decode_rows


@attrs.define
class Rows:
    """A LIST as raw rows, decoded one by one: iterate for (id, status, row).

    Attributes:
        size: bytes of the reply.
        unreadable: rows without an id or a status, counted while iterating.
    """

    size: int
    _call: Call
    _reply: Reply
    _status_field: str
    unreadable: int = attrs.field(default=0, init=False)
    _count: int = attrs.field(default=-1, init=False)

    def raw(self) -> Iterator[Json]:
        """Decode row by row, without checking the rows."""
        self.unreadable, self._count, count = 0, -1, 0
        for row in decode_rows(self._call, self._reply):
            count += 1
            yield row
        self._count = count

    def __iter__(self) -> Iterator[tuple[str, str, Json]]:
        """Decode row by row, and skip rows without an id or a status."""
        unreadable = 0
        for row in self.raw():
            if type(row) is dict:
                id, status = row.get("id"), row.get(self._status_field)
                if type(id) is str and type(status) is str:
                    yield id, status, row
                    continue
            unreadable += 1
        self.unreadable = unreadable

    @property
    def is_paged(self) -> bool:
        """True if the rows were not read to the end, or are one page of several.

        The service has no pagination today (contract 1). Pages would be announced by a `Link` header or a
        total.
        """
        return self._count < 0 or is_paged(self._reply.headers, self._count)

    @property
    def is_complete(self) -> bool:
        """True if absence from these rows is evidence: they are not paged, and all are readable."""
        return not self.is_paged and not self.unreadable


def is_paged(headers: Mapping[str, str], count: int) -> bool:
    """Return True if the headers of a LIST with `count` rows announce more rows."""
    if "next" in headers.get("Link", "").lower():
        return True
    totals = (headers.get("X-Total-Count", ""), headers.get("Content-Range", "").rpartition("/")[2])
    return any(total.isascii() and total.isdigit() and int(total[:12]) > count for total in totals)
