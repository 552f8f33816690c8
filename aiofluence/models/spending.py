"""Estimated cost of an instance: hours already begun, and hours that begin before it can be ended.

Pure arithmetic. The service charges each clock hour as it begins (contract: billing).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from .instances import Container, Instance, Machine, Summary
from .money import ZERO, exact
from .values import Status

MINIMUM_RUNTIME: Final = 1200.0
"""Seconds from ACTIVE during which Spheron, the provider of machines, refuses DELETE. Billing continues.

Reported by users of Spheron, and probably passed on by Fluence (docs/fidelity.md). The service's documents do
not mention it.
"""
_HOUR: Final = timedelta(hours=1)


@exact()
def estimate_spend(seen: Instance | Summary | None, now: datetime | None) -> Decimal | None:
    """Estimate the cost of an instance in USDC from its last poll; None if the poll had no billing data.

    The estimate adds the hours begun since the poll. For a machine, it also adds the hours that begin before
    the machine can be ended, at the earliest `MINIMUM_RUNTIME` after its deploy.

    Args:
        seen: the instance as the last poll returned it.
        now: the service's time; None if unknown.
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
    """Return the number of clock hours that are charged to an instance from `since` to `until`."""
    return (until - since.replace(minute=0, second=0, microsecond=0)) // _HOUR + 1


def until_minimum(count: int) -> str:
    """Text such as `the service ends 3 only after 20 minutes of runtime`, for a progress display."""
    return f"the service ends {count} only after {MINIMUM_RUNTIME // 60:.0f} minutes of runtime"
