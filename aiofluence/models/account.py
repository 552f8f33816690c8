"""The balance of the account, as a frozen value.

The service does not document the reply in full, so amounts may be missing.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

import attrs

from .money import exact


@attrs.frozen(kw_only=True)
class Balance:
    """Money of the account, in USDC. An amount that the service leaves out is None.

    Attributes:
        balance: remaining money. Negative when the account owes.
        usage: spent in the current period.
        estimated_usage: estimated cost of the current period.
        overage: spent beyond the balance.
        total_deposited: total of all deposits so far.
        usage_days_left: number of days that the service expects the balance to last.
        feature_key: name of the product that the balance is for.
    """

    balance: Decimal
    usage: Decimal | None = None
    estimated_usage: Decimal | None = None
    overage: Decimal | None = None
    total_deposited: Decimal | None = None
    usage_days_left: Decimal | None = None
    feature_key: str | None = None

    @exact()
    def hours_at(self, hourly: Decimal) -> int | None:
        """Return the whole hours of rent at `hourly` USDC that the balance pays; None if rent is free."""
        if hourly <= 0:
            return None
        return max(0, int((self.balance / hourly).to_integral_value(rounding=ROUND_FLOOR)))

    def lasts(self, hourly: Decimal) -> str:
        """End a sentence about a rent of `hourly` USDC: `; the balance of 42.50 USDC pays 14 hours`."""
        hours = self.hours_at(hourly)
        if hours is None:
            return ""
        return f"; the balance of {self.balance:f} USDC pays {hours} hour{'' if hours == 1 else 's'}"
