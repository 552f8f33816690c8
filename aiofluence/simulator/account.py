"""Answers about the account: its balance, and the user of the key that was sent.

The balance is the service's own answer (contract 7). Only the user's `permissions` are documented.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, TypeAlias
from uuid import NAMESPACE_URL, uuid5

from .billing import ZERO, exact
from .plans import Json
from .world import World

KeyState: TypeAlias = Literal["valid", "read-only", "expired"]

_USER = str(uuid5(NAMESPACE_URL, "https://api.fluence.dev/users/simulator"))


@exact()
def balance_json(world: World) -> Json:
    """Return the account's money as decimal texts, with its daily cost at the present rent."""
    account = world.account
    hourly = sum((instance.offer.hourly for instance in world.live()), ZERO)
    days_left = account.balance / (hourly * 24) if hourly else None
    return {
        "balance": _text(account.balance),
        "usage": _text(sum((instance.bill.spent for instance in world.instances.values()), ZERO)),
        "estimatedUsage": _text(hourly),
        "overage": _text(max(-account.balance, ZERO)),
        "totalDepositedAmount": _text(account.deposited),
        "usageDaysLeft": None if days_left is None else int(days_left),
        "userId": _USER,
        "featureKey": "gpu",
    }


def user_json(state: KeyState) -> Json:
    """Return the user of the key that was sent, with the permissions of that key."""
    permissions = ["read"] if state == "read-only" else ["read", "write", "gpu"]
    return {"id": _USER, "email": "simulator@example.org", "permissions": permissions}


def _text(amount: Decimal) -> str:
    return f"{amount:f}"
