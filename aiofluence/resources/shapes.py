"""The documents of the contract as shapes: their fields, types and enum values, by endpoint.

Pure. `differences` compares a document with its shape. The models ignore unknown fields. This module reports
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

Shape: TypeAlias = Any
"""A type (`float` accepts whole numbers), `Maybe`, `Choice`, `[shape]`, or a dict of shapes.

A name in a dict that ends with `?` may be missing.
"""


@attrs.frozen
class Maybe:
    """A value of a shape, or null."""

    inner: Shape


@attrs.frozen
class Choice:
    """A text with few known values. Case does not matter."""

    values: frozenset[str]

    @classmethod
    def of(cls, *values: str) -> Choice:
        return cls(frozenset(value.lower() for value in values))


@attrs.frozen
class Form:
    """A text that matches a pattern."""

    name: str
    pattern: re.Pattern[str]


@attrs.frozen
class Difference:
    """A place in which a document differs from its shape.

    Attributes:
        path: place, such as `$[].billing.hourly_usage`. Array indexes are left out.
        problem: `unknown field`, `missing field`, `type` or `value`.
        observed: name of the type, or the unknown enum value. Never any other text of the document.
    """

    path: str
    problem: str
    observed: str


_TIME: Final = Form("time", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)"))
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z_ -]{0,31}")

_AMOUNT: Final = {"count": float, "units": str}
_SUPPLY: Final = {"vcpu": {"count": float}, "memory": _AMOUNT, "storage": _AMOUNT, "gpu_count": int}
_GPU: Final = {
    "vendor": str,
    "model": str,
    "vram": str,
    "interface": Choice.of("SXM", "PCIE"),
}
_PRICING: Final = {"hour": float, "upfront_hours": int, "currency": Choice.of("USDC")}
STATUSES: Final = Choice.of("INITIALIZED", "ACTIVE", "FAILED", "ENDED")
_ROW: Final = {
    "id": str,
    "name": str,
    "resources": {"supply": _SUPPLY, "gpu_model": _GPU},
    "domain": Maybe(str),
    "location": str,
    "created_at": _TIME,
    "updated_at": _TIME,
}
_CONTAINER_ROW: Final = {**_ROW, "instance_status": STATUSES}
_MACHINE_ROW: Final = {**_ROW, "status": STATUSES}
_PORT: Final = {"port": str, "protocol": Choice.of("tcp", "udp", "http")}
_VARIABLES: Final = [{"name": str, "value": str}]
_NETWORK: Final = {
    "domain": Maybe(str),
    "forwarded_ports": [{**_PORT, "external_port": str}],
    "uri": Maybe(str),
}
_BILLING: Final = {
    "hourly_usage": float,
    "total_spendings": float,
    "reserved_amount": float,
    "next_billing_period": Maybe(_TIME),
}
_DETAIL: Final = {"domain?": Maybe(str), "billing": _BILLING, "network": Maybe(_NETWORK)}
_CONTAINER: Final = {
    **{name: shape for name, shape in _CONTAINER_ROW.items() if name != "domain"},
    **_DETAIL,
    "container_status": Choice.of("NOT_STARTED", "STARTED"),
    "container_info": {
        "image": str,
        "expose": [_PORT],
        "environment": _VARIABLES,
        "startup_command": Maybe(str),
    },
}
_MACHINE: Final = {
    **{name: shape for name, shape in _MACHINE_ROW.items() if name != "domain"},
    **_DETAIL,
    "availability": Choice.of("vm", "baremetal"),
    "os_image": str,
    "ssh_connection": Maybe(str),
    "ssh_key": str,
}
_CONTAINER_PLANS: Final = [
    {
        "plan": {"id": str, "name": str, "supply": _SUPPLY, "gpu_model": _GPU, "pricing": _PRICING},
        "attributes": {"location": [str]},
    }
]
_OPTION: Final = {
    "id": str,
    "location": str,
    "provider": str,
    "vcpu": {"count": float},
    "memory": _AMOUNT,
    "storage": _AMOUNT,
    "deployment_type": Choice.of("VM", "BAREMETAL"),
    "pricing": _PRICING,
    "nvlink": bool,
    "os_options": [str],
}
_BY_NUMBER: Final = {
    "gpu_count": int,
    "minimum_price": float,
    "options_available_total": int,
    "providers_available_total": int,
    "data_center_available_total": int,
    "locations": [str],
    "providers": [str],
    "options": [_OPTION],
}
_MACHINE_PLANS: Final = {
    "data": [{"gpu_model": _GPU, "minimum_price": float, "availability_by_number": [_BY_NUMBER]}]
}
_IMAGES: Final = [
    {
        "slug": str,
        "name": str,
        "description": Maybe(str),
        "image": str,
        "expose": [_PORT],
        "environment": _VARIABLES,
        "startup_command": Maybe(str),
        "requires_ssh": Maybe(bool),
    }
]
_DECIMAL: Final = Form("decimal text", re.compile(r"-?\d+(\.\d+)?"))
_BALANCES: Final = [
    {
        "balance": _DECIMAL,
        "usage": _DECIMAL,
        "estimatedUsage": _DECIMAL,
        "overage": _DECIMAL,
        "totalDepositedAmount": _DECIMAL,
        "usageDaysLeft": Maybe(float),
        "userId": str,
        "featureKey": str,
    }
]
_ME: Final = {"id?": str, "email?": str, "permissions": [str]}
_LINES: Final = [str]
_DEPLOYED: Final = {"instance_id": str}

SHAPES: Final[Mapping[str, Shape]] = {
    "GET /gpu/plans/": _CONTAINER_PLANS,
    "GET /gpu/plans/vms": _MACHINE_PLANS,
    "GET /gpu/plans/baremetal": _MACHINE_PLANS,
    "GET /gpu/default-images/": _IMAGES,
    "POST /gpu/instances/": _DEPLOYED,
    "GET /gpu/instances/": [_CONTAINER_ROW],
    "GET /gpu/instances/{id}": _CONTAINER,
    "PUT /gpu/instances/{id}": None,
    "DELETE /gpu/instances/{id}": None,
    "GET /gpu/instances/{id}/logs": _LINES,
    "GET /gpu/instances/{id}/events": _LINES,
    **{
        f"{method} /gpu/instances/{folder}{tail}": shape
        for folder in ("vms", "baremetal")
        for method, tail, shape in (
            ("POST", "", _DEPLOYED),
            ("GET", "", [_MACHINE_ROW]),
            ("GET", "/{id}", _MACHINE),
            ("PUT", "/{id}", None),
            ("DELETE", "/{id}", None),
        )
    },
    "GET /v2/users/balances": _BALANCES,
    "GET /v1/users/me": _ME,
}
"""Shape of the body of a success, by operation. None where the contract has no body."""

_INSTANCE_PATH: Final = re.compile(
    r"^(/gpu/instances/(?:(?:vms|baremetal)/)?)(?!vms$|baremetal$)[^/]+(/logs|/events)?$"
)


def operation_of(method: str, path: str) -> str:
    """Return the operation of a request as in `SHAPES`, such as `GET /gpu/instances/{id}`."""
    return f"{method} {_INSTANCE_PATH.sub(_with_id, path)}"


def _with_id(found: re.Match[str]) -> str:
    return f"{found[1]}{{id}}{found[2] or ''}"


def fits(shape: Shape, value: Any) -> bool:
    """Return True if `differences` has nothing but missing fields. About five times as fast."""
    kind = type(shape)
    if kind is dict:
        if type(value) is not dict:
            return False
        for name, inner in value.items():
            expected = shape.get(name, _UNKNOWN)
            if type(inner) is expected:
                continue
            if expected is _UNKNOWN:
                expected = shape.get(f"{name}?", _UNKNOWN)
            if expected is _UNKNOWN or not fits(expected, inner):
                return False
        return True
    if kind is Maybe:
        return value is None or fits(shape.inner, value)
    if kind is list:
        inner = shape[0]
        return value is None or (type(value) is list and all(fits(inner, item) for item in value))
    if kind is Choice:
        return type(value) is str and value.lower() in shape.values
    if kind is Form:
        return type(value) is str and shape.pattern.fullmatch(value) is not None
    return type(value) is shape or (shape is float and type(value) is int)


_UNKNOWN: Final = object()


def differences(shape: Shape, value: Any, path: str = "$") -> Iterator[Difference]:
    """Iterate over the places in which `value` differs from `shape`. The same place may come repeatedly."""
    if isinstance(shape, Maybe):
        if value is not None:
            yield from differences(shape.inner, value, path)
    elif isinstance(shape, dict):
        yield from _of_object(shape, value, path)
    elif isinstance(shape, list):
        if type(value) is list:
            for item in value:
                yield from differences(shape[0], item, f"{path}[]")
        elif value is not None:  # Go's JSON encoder writes null for an empty list
            yield Difference(path, "type", type_name(value))
    elif isinstance(shape, Choice | Form):
        if type(value) is not str:
            yield Difference(path, "type", type_name(value))
        elif isinstance(shape, Form):
            if not shape.pattern.fullmatch(value):
                yield Difference(path, "type", f"not a {shape.name}")
        elif value.lower() not in shape.values:
            yield Difference(path, "value", value if _WORD.fullmatch(value) else "a text")
    elif type(value) is not shape and not (shape is float and type(value) is int):
        yield Difference(path, "type", type_name(value))


def _of_object(shape: Mapping[str, Shape], value: Any, path: str) -> Iterator[Difference]:
    if type(value) is not dict:
        yield Difference(path, "type", type_name(value))
        return
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            yield from differences(inner, value[key], f"{path}.{key}")
        elif key == name:
            yield Difference(f"{path}.{key}", "missing field", "")
    for name in value:
        if name not in shape and f"{name}?" not in shape:
            known = name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,39}", name) else "(a text)"
            yield Difference(f"{path}.{known}", "unknown field", type_name(value[name]))


def type_name(value: Any) -> str:
    """Return the JSON name of a value's type."""
    names = {dict: "object", list: "array", str: "text", bool: "boolean", int: "number", float: "number"}
    return "null" if value is None else names[type(value)]
