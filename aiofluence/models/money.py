"""Amounts of money: their bounds, and the decimal context of all computations.

Every sum, product and formatting of money runs in `exact()`. The precision, rounding and traps of the calling
program's decimal context therefore change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Final

MOST: Final = 1_000_000_000
"""Upper bound of an amount, and the negative lower bound where an amount may be negative."""
ZERO: Final = Decimal(0)

# Amounts have at most 10 digits before the point and 40 behind it, so no sum or product of two is rounded.
_CONTEXT: Final = Context(
    prec=120, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999, capitals=1, traps=[]
)
# float's repr uses exponents below 1e-4. Longer texts are refused before any arithmetic.
_AMOUNT: Final = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{0,40})?(?:[eE][+-]?[0-9]{1,2})?")


@contextmanager
def exact() -> Iterator[None]:
    """Compute in the library's own decimal context. Also decorates functions without `await`."""
    with localcontext(_CONTEXT):
        yield


@exact()
def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of `amounts`."""
    return sum(amounts, ZERO)


@exact()
def read_amount(given: object, *, least: int = 0) -> Decimal:
    """Read an amount from a text, a Decimal or a number. A float counts as its shortest repr.

    Args:
        given: `"0.44"`, `0.44`, `Decimal("0.44")`.
        least: lower bound.

    Raises:
        ValueError: `given` is no number, is outside the bounds, or has more than 40 decimal places.
    """
    if type(given) is int and -MOST <= given <= MOST:  # Python cannot write very large integers
        text = str(given)
    elif isinstance(given, str):
        text = given
    elif isinstance(given, float | Decimal):
        # repr() of a float is its shortest exact text: 0.1 becomes Decimal("0.1").
        text = repr(float(given)) if isinstance(given, float) else str(given)
    else:
        text = ""
    if _AMOUNT.fullmatch(text):
        amount = Decimal(text)
        exponent = amount.as_tuple().exponent
        if least <= amount <= MOST and isinstance(exponent, int) and exponent >= -40:
            amount = amount.quantize(Decimal(1)) if exponent > 0 else amount
            return amount or abs(amount)  # no negative zero
    raise ValueError(f"not an amount from {least} to {MOST}")
