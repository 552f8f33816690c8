"""Money: one account, its ledger, and the bill of each instance.

Rent is charged by fixed clock hours. A deploy takes three hours: one is spent for the current clock hour,
two are reserved. Amounts are `Decimal`. This module knows no statuses and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, localcontext
from typing import Literal, TypeAlias

import attrs

Movement: TypeAlias = Literal["deploy", "top_up", "refund", "adjustment"]

ZERO = Decimal(0)


@contextmanager
def exact() -> Iterator[None]:
    """Compute independently of the precision, rounding and traps of the caller's decimal context."""
    with localcontext(Context(prec=120, traps=[])):
        yield


@attrs.frozen
class LedgerEntry:
    """A change of the balance. Charges are negative, refunds positive.

    `at` is in simulated seconds, amounts are in USDC. An `adjustment` is a balance set by hand and has no
    instance.
    """

    at: float
    instance_id: str | None
    kind: Movement
    amount: Decimal
    balance_after: Decimal


@attrs.define
class Bill:
    """Cost of one instance so far (`spent`), and the amount held back for it (`reserved`)."""

    instance_id: str
    hourly: Decimal
    upfront_hours: int
    spent: Decimal = ZERO
    reserved: Decimal = ZERO

    @property
    @exact()
    def upfront(self) -> Decimal:
        """The amount that a deploy takes immediately."""
        return self.hourly * self.upfront_hours


class BilledAccount:
    """The balance and the append-only ledger. Opening balance plus all amounts always equals the balance."""

    def __init__(self, opening: Decimal) -> None:
        self.opening = opening
        self.balance: Decimal = opening
        self.ledger: list[LedgerEntry] = []

    @property
    @exact()
    def deposited(self) -> Decimal:
        """All deposits: the opening balance, and the amounts added by hand."""
        added = (entry.amount for entry in self.ledger if entry.kind == "adjustment" and entry.amount > 0)
        return sum(added, self.opening)

    @exact()
    def adjust(self, balance: Decimal, at: float) -> None:
        """Set the balance by hand."""
        self._move(at, "adjustment", balance - self.balance, None)

    @exact()
    def open(self, bill: Bill, at: float) -> None:
        """Take the upfront hours: the first is spent, the others are reserved."""
        self._move(at, "deploy", -bill.upfront, bill.instance_id)
        bill.spent = bill.hourly
        bill.reserved = bill.upfront - bill.hourly

    @exact()
    def next_hour(self, bill: Bill, at: float) -> bool:
        """Pay the clock hour that begins from the reserve.

        Return False and take nothing if the reserve is too small: the paid hours are over.
        """
        if bill.reserved < bill.hourly:
            return False
        bill.reserved -= bill.hourly
        bill.spent += bill.hourly
        return True

    @exact()
    def top_up(self, bill: Bill, at: float) -> None:
        """Fill the reserve by whole hours, as far as the balance allows."""
        full = bill.upfront - bill.hourly
        while bill.reserved < full and self.balance >= bill.hourly:
            self._move(at, "top_up", -bill.hourly, bill.instance_id)
            bill.reserved += bill.hourly

    @exact()
    def close(self, bill: Bill, at: float) -> None:
        """Refund the reserve. The spent amount stays spent."""
        self._refund(bill, bill.reserved, at)

    @exact()
    def cancel(self, bill: Bill, at: float) -> None:
        """Refund everything."""
        self._refund(bill, bill.reserved + bill.spent, at)
        bill.spent = ZERO

    def _refund(self, bill: Bill, amount: Decimal, at: float) -> None:
        bill.reserved = ZERO
        if amount:
            self._move(at, "refund", amount, bill.instance_id)

    def _move(self, at: float, kind: Movement, amount: Decimal, instance_id: str | None) -> None:
        self.balance += amount
        self.ledger.append(LedgerEntry(at, instance_id, kind, amount, self.balance))
