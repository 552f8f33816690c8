"""The hooks that read one text, number, time, size or port from JSON, each within bounds.

Bounds keep a hostile answer from raising foreign errors later, in arithmetic, formatting or caches. No I/O.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from ..models.money import MOST, read_amount
from ..models.values import Environment, OpenEnum, Size

REMEMBERED: Final = 512
"""Sizes, prices, GPUs come again and again, and are slow to make: this many of each are kept."""
_SHORT: Final = 256
"""Longest text of a status, size or time."""
_LARGEST: Final = 10**9
"""Largest count of anything: CPUs, GPUs, hours."""
_YEARS: Final = range(1970, 9000)
"""Years of a time: date arithmetic at the ends of `datetime`'s range overflows."""


class MisfitError(Exception):
    """A value that does not fit; the message names types, never the value."""


def exactly(*types: type) -> Callable[[Any, Any], Any]:
    """A hook that takes these types alone: cattrs itself would turn null into 'None' and 5 into '5'."""
    names = " or ".join(kind.__name__ for kind in types)

    def hook(value: Any, _: Any) -> Any:
        if type(value) in types:
            return value
        raise MisfitError(f"expected {names}, got {name_of(value)}")

    return hook


def name_of(value: Any) -> str:
    """Type of a JSON value, in words."""
    return "null" if value is None else type(value).__name__


def member(value: Any, kind: type[OpenEnum]) -> OpenEnum:
    """A member of an enum; the enums keep what they do not know."""
    if type(value) is not str:
        raise MisfitError(f"expected str, got {name_of(value)}")
    if len(value) > _SHORT:
        raise MisfitError(f"expected at most {_SHORT} characters")
    return kind(value)


def integer(value: Any, _: Any) -> int:
    """A count: every integer of the service's models is one."""
    if type(value) is not int:
        raise MisfitError(f"expected int, got {name_of(value)}")
    if not 0 <= value <= _LARGEST:
        raise MisfitError(f"expected an integer from 0 to {_LARGEST}")
    return value


def count(value: Any, _: Any) -> int:
    """`{"count": 16}` as 16."""
    number = value.get("count") if type(value) is dict else None
    if type(number) is int:
        return integer(number, int)
    raise MisfitError(f"expected {{count}}, got {name_of(value)}")


_amount_of_float = functools.lru_cache(REMEMBERED)(read_amount)


def money(value: Any, _: Any) -> Decimal:
    """An amount of money that may be negative, as a balance or a correction is."""
    return _amount(value, -MOST)


def price(value: Any, _: Any) -> Decimal:
    """A price of one hour, which is never negative."""
    return _amount(value, 0)


def _amount(value: Any, least: int) -> Decimal:
    if type(value) not in (float, int, str):
        raise MisfitError(f"expected a number, got {name_of(value)}")
    try:
        if type(value) is float:
            return _amount_of_float(value, least=least)
        return read_amount(value, least=least)
    except ValueError:
        raise MisfitError(f"expected a number from {least} to {MOST}") from None


def moment(value: Any, _: Any) -> datetime:
    """An ISO 8601 time in UTC; a time without a zone is in UTC."""
    if type(value) is not str:
        raise MisfitError(f"expected an ISO 8601 time, got {name_of(value)}")
    try:
        time = datetime.fromisoformat(value) if len(value) <= _SHORT else None
    except ValueError:
        time = None
    if time is None:
        raise MisfitError("expected an ISO 8601 time, got another text")
    if time.year not in _YEARS:
        raise MisfitError(f"expected a year from {_YEARS.start} to {_YEARS.stop - 1}")
    if time.tzinfo is UTC:
        return time
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


_parsed_size = functools.lru_cache(REMEMBERED)(Size.parse)
_size_of = functools.lru_cache(REMEMBERED)(Size.of)


def size(value: Any, _: Any) -> Size:
    """`"141Gi"` or `{"count": 128, "units": "Gi"}`."""
    try:
        if type(value) is str and len(value) <= _SHORT:
            return _parsed_size(value)
        if type(value) is dict:
            number, units = value.get("count"), value.get("units")
            if type(number) in (int, float) and type(units) is str and len(units) <= _SHORT:
                return _size_of(number, units)
    except ValueError:
        raise MisfitError("expected a size with a known unit") from None
    raise MisfitError(f"expected a size, got {name_of(value)}")


def port_number(value: Any, _: Any) -> int:
    """A port; ports are texts on the wire, and numbers are taken as well."""
    if type(value) is str and len(value) <= 5 and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is int and 0 <= value <= 65535:
        return value
    raise MisfitError(f"expected a port, got {name_of(value)}")


def environment(value: Any, _: Any) -> Environment:
    """`[{"name": "A", "value": "1"}]`, or null."""
    variables: dict[str, str] = {}
    for item in value if type(value) is list else [value] if value is not None else ():
        name, text = (item.get("name"), item.get("value")) if type(item) is dict else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise MisfitError("expected a list of {name, value}")
        variables[name] = text
    return Environment(variables)
