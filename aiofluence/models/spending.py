"""What instances cost, by a look at their bill: hours begun, and hours that begin before an end is possible.

Pure arithmetic. Rent is charged by clock hours, each as it begins (contract: billing).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from .instances import Container, Instance, Machine, Summary
from .money import ZERO, exact
from .values import Status

MINIMUM_RUNTIME: Final = 1200.0
"""Seconds from ACTIVE for which the provider of machines, Spheron, refuses DELETE; billing goes on meanwhile.

Reported by users of Spheron; likely passed on by Fluence (docs/fidelity.md). Not in the service's documents.
"""
_HOUR: Final = timedelta(hours=1)


@exact()
def estimate_spend(seen: Instance | Summary | None, now: datetime | None) -> Decimal | None:
    """Cost of an instance in USDC, by the last look at it; None when that look had no bill.

    The hours begun since that look are added, and for a machine those that begin before the service ends it:
    at the earliest `MINIMUM_RUNTIME` after its deploy.

    Args:
        seen: what the last look showed.
        now: the service's time; None when it is not known.
    """
    if seen is not None and seen.status is Status.FAILED:
        return ZERO
    if not isinstance(seen, Container | Machine):
        return None
    spent, due = seen.billing.total_spendings, seen.billing.next_billing_period
    moments = [] if now is None else [now]
    if isinstance(seen, Machine):
        moments.append(seen.created_at + timedelta(seconds=MINIMUM_RUNTIME))
    latest = max(moments, default=None)
    if seen.status.final or due is None or latest is None or latest < due:
        return spent
    return spent + seen.billing.hourly_usage * ((latest - due) // _HOUR + 1)


def hours_begun(since: datetime, until: datetime) -> int:
    """Number of clock hours that are charged to an instance that is there from `since` to `until`."""
    return (until - since.replace(minute=0, second=0, microsecond=0)) // _HOUR + 1
