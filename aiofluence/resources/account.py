"""The account: its balance, and the permissions of its key.

Reads only. The service's documents show neither reply in full, so both are parsed tolerantly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from ..errors import DecodeError, FluenceError
from ..http import readers
from ..http.messages import BALANCES_PATH, ME_PATH, Call, Json, Retryable
from ..http.transport import Transport
from ..models.account import Balance
from ..models.money import total

BALANCES: Final = Call("GET", BALANCES_PATH, retryable=Retryable.ALWAYS)
ME: Final = Call("GET", ME_PATH, retryable=Retryable.ALWAYS)

_OTHERS: Final = {
    "usage": "usage",
    "estimated_usage": "estimatedUsage",
    "overage": "overage",
    "total_deposited": "totalDepositedAmount",
}
"""Amounts beside the balance that add up, and their fields on the wire."""
_PATIENCE: Final = 5.0
"""Seconds to wait for a balance that is helpful but not required."""
_ENVELOPES: Final = ("data", "user", "result", "apiKey", "api_key", "key")
"""Fields that may wrap a reply."""
_NAMES: Final = ("name", "permission", "key", "id", "code", "slug")
"""Fields that may hold the name of a permission that is an object."""


class Account:
    """The account of the key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def balance(self) -> Balance:
        """Return the remaining money. Several entries in the reply are added up.

        Raises:
            DecodeError: the reply has no balance.
            FluenceError: as in `aiofluence.errors`.
        """
        answer = await self._transport.call(BALANCES)
        balances = [found for row in _rows(answer.value) if (found := _read_balance(row)) is not None]
        if not balances:
            raise DecodeError("expected a balance", path="$[*].balance", call=str(answer.call))
        return balances[0] if len(balances) == 1 else _added_up(balances)

    async def permissions(self) -> tuple[str, ...]:
        """Return the key's permissions in the service's words and order; empty if there are none.

        Raises:
            DecodeError: the reply lists no permissions.
            FluenceError: as in `aiofluence.errors`.
        """
        answer = await self._transport.call(ME)
        listed = _find_permissions(answer.value)
        if listed is None:
            raise DecodeError("expected permissions", path="$.permissions", call=str(answer.call))
        return listed


async def known_balance(account: Account) -> Balance | None:
    """Return the balance for a decision that can do without; None if it is unreadable within five seconds."""
    with contextlib.suppress(FluenceError, TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            return await account.balance()
    return None


def _rows(value: Json) -> list[Json]:
    value = _unwrapped(value, "balance")
    return value if type(value) is list else [value]


def _read_balance(row: Json) -> Balance | None:
    """Read one entry of the reply; return None for an entry without a readable balance."""
    row = row if type(row) is dict else {}
    balance = _amount(row.get("balance"))
    if balance is None:
        return None
    feature = row.get("featureKey")
    return Balance(
        balance=balance,
        feature_key=feature if type(feature) is str else None,
        usage_days_left=_amount(row.get("usageDaysLeft")),
        **{name: _amount(row.get(wire)) for name, wire in _OTHERS.items()},
    )


def _amount(value: Json) -> Decimal | None:
    """Read an amount; return None for an unreadable one, so that it does not hide the other fields."""
    try:
        return None if value is None else readers.money(value, Decimal)
    except readers.MisfitError:
        return None


def _added_up(balances: Sequence[Balance]) -> Balance:
    """Combine several entries into one. An amount that any of them lacks is None."""

    def added(name: str) -> Decimal | None:
        amounts = [getattr(balance, name) for balance in balances]
        return None if None in amounts else total(amounts)

    return Balance(
        balance=total(balance.balance for balance in balances),
        feature_key=None,
        **{name: added(name) for name in _OTHERS},
    )


def _unwrapped(value: Json, field: str) -> Json:
    """Remove the envelopes around the object that has `field`."""
    for _ in range(len(_ENVELOPES)):
        inner = None
        if type(value) is dict and field not in value:
            inner = next((value[name] for name in _ENVELOPES if type(value.get(name)) in (dict, list)), None)
        if inner is None:
            return value
        value = inner
    return value


def _find_permissions(value: Json) -> tuple[str, ...] | None:
    """Find the permissions in `GET /v1/users/me`: texts, objects with a name, or an object of booleans."""
    value = _unwrapped(value, "permissions")
    listed: Any = value.get("permissions") if type(value) is dict else None
    if type(listed) is dict:
        return tuple(name for name, granted in listed.items() if granted)
    if type(listed) is str:
        return tuple(listed.replace(",", " ").split())
    if type(listed) is not list:
        return None
    names: list[str] = []
    for item in listed:
        named = item
        if type(item) is dict:
            named = next((item[name] for name in _NAMES if type(item.get(name)) is str), None)
        if type(named) is str:
            names.append(named)
    return tuple(dict.fromkeys(names))
