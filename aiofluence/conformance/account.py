"""The documents of the account and of the catalogue, fetched once per run for the probes that read them.

Bounded: a few details, logs and event lists, whatever the length of the account's history.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import attrs

from ..models.values import Kind
from .asking import NO_RESULT, PATHS, Asker

_PLANS: Final = {
    Kind.CONTAINER: "/gpu/plans/",
    Kind.VM: "/gpu/plans/vms",
    Kind.BAREMETAL: "/gpu/plans/baremetal",
}
_EACH: Final = 2
"""Details to fetch of each kind and status, newest first."""


@attrs.define
class Account:
    """Documents as JSON, by kind. A document that could not be fetched is missing.

    Attributes:
        documents: (operation, body) of every reply.
        rows: rows of each list.
        details: details of a few instances, with their kind.
        logs: log lines of a few containers by id.
        events: events of a few containers by id.
        answers: several log answers of one running container, in order.
    """

    documents: list[tuple[str, Any]] = attrs.field(factory=list)
    rows: dict[Kind, list[Any]] = attrs.field(factory=dict)
    details: list[tuple[Kind, Any]] = attrs.field(factory=list)
    logs: dict[str, Any] = attrs.field(factory=dict)
    events: dict[str, Any] = attrs.field(factory=dict)
    answers: list[Any] = attrs.field(factory=list)
    plans: dict[Kind, Any] = attrs.field(factory=dict)

    def all_rows(self) -> Iterator[tuple[Kind, Any]]:
        """Iterate over the rows of all lists."""
        for kind, rows in self.rows.items():
            for row in rows:
                yield kind, row

    def with_status(self, *statuses: str, kind: Kind | None = None) -> Iterator[Any]:
        """Iterate over the details of instances in one of the statuses."""
        for of, detail in self.details:
            if status_of(detail) in statuses and kind in (None, of):
                yield detail


async def read_account(asker: Asker) -> Account:
    """Fetch the documents. A document that cannot be fetched is left out."""
    account = Account()

    async def get(operation: str, path: str, **query: str) -> Any:
        try:
            value = await asker.fetch(path, **query)
        except NO_RESULT:
            return None
        account.documents.append((operation, value))
        return value

    for kind, path in _PLANS.items():
        before = set(asker.account)
        account.plans[kind] = await get(f"GET {path}", path)
        asker.account = before  # the catalogue is public
    before = set(asker.account)
    await get("GET /gpu/default-images/", "/gpu/default-images/")
    asker.account = before
    for path in ("/v2/users/balances", "/v1/users/me"):
        await get(f"GET {path}", path)
    for kind, path in PATHS.items():
        rows = await get(f"GET {path}", path)
        account.rows[kind] = [row for row in rows or () if isinstance(row, dict)]
        one = f"{path.rstrip('/')}/"
        for row in _some(account.rows[kind]):
            detail = await get(f"GET {one}{{id}}", f"{one}{row['id']}")
            if isinstance(detail, dict):
                account.details.append((kind, detail))
                if kind is Kind.CONTAINER:
                    account.logs[row["id"]] = await get(
                        f"GET {one}{{id}}/logs", f"{one}{row['id']}/logs", last="200"
                    )
                    account.events[row["id"]] = await get(
                        f"GET {one}{{id}}/events", f"{one}{row['id']}/events"
                    )
    running = next(account.with_status("ACTIVE", kind=Kind.CONTAINER), None)
    if running is not None:
        for _ in range(5):
            account.answers.append(
                await get("GET /gpu/instances/{id}/logs", f"/gpu/instances/{running['id']}/logs")
            )
    return account


def _some(rows: list[Any]) -> Iterator[Any]:
    """Iterate over a few rows of each status."""
    seen: dict[str, int] = {}
    for row in rows:
        status = status_of(row)
        seen[status] = seen.get(status, 0) + 1
        if seen[status] <= _EACH and isinstance(row.get("id"), str):
            yield row


def status_of(document: Any) -> str:
    """Return the status in a row or a detail; empty if there is none."""
    value = document.get("instance_status", document.get("status"))
    return value if isinstance(value, str) else ""
