"""Hooks that read one text, number, time, size or port from JSON, each within bounds.

Without bounds, a hostile reply could raise foreign errors later, in arithmetic, formatting or caches. No I/O.
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
"""Number of cached sizes, prices and GPUs of each type. They repeat often, and are slow to make."""
_SHORT: Final = 256
"""Maximum length of a status, size or time."""
_LARGEST: Final = 10**9
"""Maximum of any count: CPUs, GPUs, hours."""
_YEARS: Final = range(1970, 9000)
"""Valid years of a time. Arithmetic with the first and last years of `datetime` overflows."""


class MisfitError(Exception):
    """A value that does not fit. The message names types, never the value."""


def exactly(*types: type) -> Callable[[Any, Any], Any]:
    """Return a hook for exactly these types: cattrs itself would turn null into 'None' and 5 into '5'."""
    names = " or ".join(kind.__name__ for kind in types)

    def hook(value: Any, _: Any) -> Any:
        if type(value) in types:
            return value
        raise MisfitError(f"expected {names}, got {name_of(value)}")

    return hook


def name_of(value: Any) -> str:
    """Return the type of a JSON value, in words."""
    return "null" if value is None else type(value).__name__


def member(value: Any, kind: type[OpenEnum]) -> OpenEnum:
    """Read a member of an enum. The enums also accept unknown members."""
    if type(value) is not str:
        raise MisfitError(f"expected str, got {name_of(value)}")
    if len(value) > _SHORT:
        raise MisfitError(f"expected at most {_SHORT} characters")
    return kind(value)


def integer(value: Any, _: Any) -> int:
    """Read a count. Every integer of the service's models is a count."""
    if type(value) is not int:
        raise MisfitError(f"expected int, got {name_of(value)}")
    if not 0 <= value <= _LARGEST:
        raise MisfitError(f"expected an integer from 0 to {_LARGEST}")
    return value


def count(value: Any, _: Any) -> int:
    """Read `{"count": 16}` as 16."""
    number = value.get("count") if type(value) is dict else None
    if type(number) is int:
        return integer(number, int)
    raise MisfitError(f"expected {{count}}, got {name_of(value)}")


_amount_of_float = functools.lru_cache(REMEMBERED)(read_amount)


def money(value: Any, _: Any) -> Decimal:
    """Read an amount of money, which may be negative, such as a balance or a correction."""
    return _amount(value, -MOST)


def price(value: Any, _: Any) -> Decimal:
    """Read a price per hour, which is never negative."""
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
    """Read an ISO 8601 time. A time without a zone is in UTC."""
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
    """Read a size: `"141Gi"` or `{"count": 128, "units": "Gi"}`."""
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
    """Read a port. The service sends texts, and numbers are accepted as well."""
    if type(value) is str and len(value) <= 5 and value.isascii() and value.isdigit():
        value = int(value)
    if type(value) is int and 0 <= value <= 65535:
        return value
    raise MisfitError(f"expected a port, got {name_of(value)}")


def environment(value: Any, _: Any) -> Environment:
    """Read `[{"name": "A", "value": "1"}]`, or null."""
    variables: dict[str, str] = {}
    for item in value if type(value) is list else [value] if value is not None else ():
        name, text = (item.get("name"), item.get("value")) if type(item) is dict else (None, None)
        if not isinstance(name, str) or not isinstance(text, str):
            raise MisfitError("expected a list of {name, value}")
        variables[name] = text
    return Environment(variables)
