"""Fields of the control API's bodies, and the objects that it reads and shows: scripted faults, instances.

`control_api` decides which path has which fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any, TypeAlias

from .faults import Effect, Fault, Script
from .forms import Fields
from .instances import Instance
from .plans import Json
from .routes import operation as operation_of

YEAR = 31_536_000
"""Seconds: maximum of any duration."""

Expected: TypeAlias = tuple[str, Callable[[Any], bool]]
"""Arguments of `Fields.given`: the description of a field, and the check of its value."""


def elements(body: Fields, name: str) -> list[Fields]:
    """Return the objects in the field `name`, as a GET shows them, or the body itself as the only one."""
    if name not in body.values:
        return [body]
    found = body.objects(name, at_least=0, at_most=10_000)
    body.know(name)
    done(body)
    return found


def done(body: Fields) -> None:
    """Refuse the body if it has a problem or an unknown field."""
    body.refuse_others()
    body.problems.raise_any()


def sentence(problem: Json) -> str:
    """Return a problem of a 422 as one sentence."""
    loc = problem["loc"][1:]
    place = ".".join(map(str, loc)) if loc and isinstance(loc[0], str) else ""  # else a position in the text
    reason = problem.get("ctx", {}).get("error", "")
    return f"{place or 'body'}: {problem['msg']}{f': {reason}' if reason else ''}"


def integer(least: int, most: int) -> Expected:
    return f"an integer from {least} to {most}", lambda n: type(n) is int and least <= n <= most


def number(least: float, most: float) -> Expected:
    expected = f"a number from {least:g} to {most:,.0f}"
    return expected, lambda n: type(n) in (int, float) and least <= n <= most


def one_of(*options: str) -> Expected:
    return f"one of {', '.join(options)}", lambda text: text in options


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        and re.fullmatch(r"[ -~]*", text)
        for name, text in value.items()
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


TEXT: Expected = ("a text", lambda value: isinstance(value, str))
TEXTS: Expected = ("an array of texts", _are_texts)
BOOLEAN: Expected = ("true or false", lambda value: type(value) is bool)
_JSON: Expected = ("JSON", lambda value: True)
_HEADERS: Expected = ("an object of header names and texts", _are_headers)


def is_moment(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def is_amount(value: Any) -> bool:
    try:
        return isinstance(value, str) and Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _is_operation(value: Any) -> bool:
    method, _, path = str(value).partition(" ")
    return value == "*" or (isinstance(value, str) and operation_of(method, path) is not None)


def _are_times(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 1)


# Objects


def instance_json(instance: Instance) -> Json:
    """Return an instance as the state shows it."""
    bill = instance.bill
    return {
        "id": instance.id,
        "kind": instance.kind,
        "name": instance.name,
        "status": instance.state.value,
        "failure": instance.failure,
        "created_at": instance.created_at,
        "hourly": str(bill.hourly),
        "spent": str(bill.spent),
        "reserved": str(bill.reserved),
    }


_BREAKS = {"reset": Fault.reset, "hang": Fault.hang, "refuse": Fault.refuse, "cut": Fault.cut}


def read_script(body: Fields) -> Script:
    """Read a scripted fault."""
    operation = body.given("operation", 'such as "POST /gpu/instances/", or "*"', _is_operation)
    kind = str(body.given("fault", *one_of("status", "body", "slow", *_BREAKS)))
    fault: Callable[[], Fault] = Fault.reset
    if kind == "status":
        code, content = body.given("code", *integer(200, 599)), body.given("body", *_JSON, None)
        headers = body.given("headers", *_HEADERS, None)
        fault = partial(Fault.status, code, content, headers)
    elif kind == "body":
        content, headers = body.given("body", *_JSON), body.given("headers", *_HEADERS, None)
        fault = partial(Fault.body, content, headers)
    elif kind == "slow":
        seconds = body.given("seconds", *number(0.001, YEAR))
        fault = partial(Fault.slow, seconds)
    elif kind in _BREAKS:
        fault = _BREAKS[kind]
    else:
        body.know("code", "body", "headers", "seconds")  # the wrong kind is the only problem
    times = body.given("times", "an integer from 1, or null for all", _are_times, 1)
    skip = body.given("skip", *integer(0, 1_000_000), 0)
    when = body.given("when", *one_of("before", "after"), "before")
    late = body.given("commit_after", *number(0, YEAR), None)
    body.know("struck")
    done(body)
    return Script(operation, fault(), times, skip, when, late)


def script_json(script: Script) -> Json:
    """Return a script in the form that `read_script` reads."""
    fault = script.fault
    shown: Json = {"operation": script.operation, "fault": fault.effect.value}
    if fault.delay:
        shown |= {"fault": "slow", "seconds": fault.delay}
    elif fault.effect is Effect.REPLY:
        shown["fault"] = "body" if fault.code is None else "status"
        if fault.code is not None:
            shown["code"] = fault.code
        shown |= {"body": _content(fault.content), "headers": dict(fault.headers)}
    for name in ("times", "skip", "when", "commit_after", "struck"):
        shown[name] = getattr(script, name)
    return shown


def _content(content: bytes) -> Any:
    """Return the body of a fault as JSON, or as a text if it is none."""
    text = content.decode(errors="replace")
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if value is None or isinstance(value, str) else value
