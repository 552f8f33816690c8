"""Field-by-field reading of JSON bodies, and the 422 that lists all their problems.

The problems have pydantic's form, as in the service's own example. `validation` defines the fields of the
service and their limits, and `control_api` those of the control API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NoReturn, TypeAlias

from .answer_options import problem_key
from .plans import Json

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

Loc: TypeAlias = tuple[str | int, ...]
REQUIRED: Final[Any] = object()
"""Default that marks a required field."""


class RequestRefusedError(Exception):
    """A refusal by the service: a 4xx status and a JSON body."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.body: Json = {"detail": detail}


class Problems:
    """The growing `detail` of a 422."""

    def __init__(self, unchecked: Collection[str] = (), prefix: str = "") -> None:
        self.found: list[Json] = []
        self._unchecked = unchecked
        self._prefix = prefix

    def add(self, kind: str, loc: Loc, msg: str, given: Any, ctx: Json | None = None) -> None:
        if self._unchecked and f"{self._prefix}{problem_key(loc, kind)}" in self._unchecked:
            return
        problem = {"type": kind, "loc": list(loc), "msg": msg, "input": given}
        self.found.append(problem if ctx is None else problem | {"ctx": ctx})

    def value_error(self, loc: Loc, msg: str, given: Any) -> None:
        """Add a problem in the form of a validator function's ValueError. The service's `error` is empty."""
        self.add("value_error", loc, f"Value error, {msg}", given, {"error": {}})

    def raise_any(self) -> None:
        if self.found:
            raise RequestRefusedError(422, self.found)


class Fields:
    """Reader of one JSON object that collects the problems of all fields under their `loc`.

    A missing or wrong field reads as empty. `Problems.raise_any` refuses the body after all fields were read.
    """

    def __init__(self, value: Any, loc: Loc, problems: Problems) -> None:
        self.loc = loc
        self.problems = problems
        self.values: Mapping[str, Any] = value if isinstance(value, dict) else {}
        self.usable: bool = isinstance(value, dict)
        self._known: list[str] = []
        if not self.usable:
            problems.add(
                "model_attributes_type",
                loc,
                "Input should be a valid dictionary or object to extract fields from",
                value,
            )

    def forbid_others(self, known: Collection[str]) -> None:
        """Add a problem for each field that is not known."""
        for name, value in self.values.items():
            if name not in known:
                loc = (*self.loc, name)
                self.problems.add("extra_forbidden", loc, "Extra inputs are not permitted", value)

    def _take(self, key: str) -> tuple[bool, Any]:
        if key in self.values:
            return True, self.values[key]
        if self.usable:
            self.problems.add("missing", (*self.loc, key), "Field required", dict(self.values))
        return False, None

    def given(self, key: str, expected: str, fits: Callable[[Any], bool], default: Any = REQUIRED) -> Any:
        """Read a field of the control API. An optional field also accepts None if that is its default.

        Call `refuse_others` and `raise_any` before using the value, because a wrong value is returned, too.
        """
        self.know(key)
        if key not in self.values:
            if default is REQUIRED and self.usable:
                self.problems.add("missing", (*self.loc, key), f"required; must be {expected}", None)
            return default
        value = self.values[key]
        if not (value is None and default is None) and not fits(value):
            text = json.dumps(value)
            shown = text if len(text) <= 60 else f"{text[:60]}…"
            self.problems.add("value_error", (*self.loc, key), f"must be {expected}, not {shown}", value)
        return value

    def know(self, *keys: str) -> None:
        """Accept fields for which `refuse_others` finds no problem."""
        self._known += keys

    def rest(self) -> dict[str, Any]:
        """Return every field that was not read so far. The caller checks their names."""
        return {key: value for key, value in self.values.items() if key not in self._known}

    def refuse_others(self) -> None:
        """Add a problem for each field that is not known."""
        known = ", ".join(dict.fromkeys(self._known)) or "none"
        for key, value in sorted(self.rest().items()):
            self.problems.add("extra", (*self.loc, key), f"no such field here; there are {known}", value)

    def text(
        self,
        key: str,
        *,
        at_least: int = 0,
        at_most: int | None = None,
        pattern: str | None = None,
        check: Callable[[str], str | None] | None = None,
    ) -> str:
        """Read a required string. `check` returns the text of a value error, or None."""
        there, value = self._take(key)
        if not there:
            return ""
        loc = (*self.loc, key)
        if not isinstance(value, str):
            self.problems.add("string_type", loc, "Input should be a valid string", value)
            return ""
        if len(value) < at_least:
            self._bound("string_too_short", loc, value, "at least", "min_length", at_least)
        elif at_most is not None and len(value) > at_most:
            self._bound("string_too_long", loc, value, "at most", "max_length", at_most)
        elif pattern is not None and not re.fullmatch(pattern, value):
            self.problems.add(
                "string_pattern_mismatch",
                loc,
                f"String should match pattern '{pattern}'",
                value,
                {"pattern": pattern},
            )
        elif check is not None and (wrong := check(value)) is not None:
            self.problems.value_error(loc, wrong, value)
        return value

    def _bound(self, kind: str, loc: Loc, value: str, words: str, key: str, limit: int) -> None:
        plural = "" if limit == 1 else "s"
        self.problems.add(
            kind, loc, f"String should have {words} {limit} character{plural}", value, {key: limit}
        )

    def optional_text(
        self, key: str, *, at_most: int | None = None, pattern: str | None = None
    ) -> str | None:
        if self.values.get(key) is None:
            return None
        return self.text(key, at_most=at_most, pattern=pattern)

    def one_of(self, key: str, options: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if value in options:
            return str(value)
        quoted = [f"'{option}'" for option in options]
        expected = f"{', '.join(quoted[:-1])} or {quoted[-1]}"
        self.problems.add(
            "literal_error", (*self.loc, key), f"Input should be {expected}", value, {"expected": expected}
        )
        return default

    def uuid(self, key: str) -> str:
        there, value = self._take(key)
        if there and not (isinstance(value, str) and re.fullmatch(_UUID, value)):
            msg = "Input should be a valid UUID"
            self.problems.add("uuid_parsing", (*self.loc, key), msg, value, {"error": "invalid format"})
        return value.lower() if isinstance(value, str) else ""

    def object(self, key: str) -> Fields:
        there, value = self._take(key)
        if there:
            return Fields(value, (*self.loc, key), self.problems)
        return Fields({}, (*self.loc, key), Problems())  # report the absent object, not its fields

    def optional_object(self, key: str) -> Fields | None:
        return None if self.values.get(key) is None else self.object(key)

    def objects(self, key: str, *, at_least: int, at_most: int) -> list[Fields]:
        """Read a list of objects. If `at_least` is 0, the list may be absent or null."""
        if at_least == 0 and self.values.get(key) is None:
            return []
        there, value = self._take(key)
        if not there:
            return []
        loc = (*self.loc, key)
        if not isinstance(value, list):
            self.problems.add("list_type", loc, "Input should be a valid list", value)
            return []
        if len(value) < at_least:
            self._size("too_short", loc, value, "at least", "min_length", at_least)
        elif len(value) > at_most:
            self._size("too_long", loc, value, "at most", "max_length", at_most)
        return [Fields(item, (*loc, index), self.problems) for index, item in enumerate(value)]

    def _size(self, kind: str, loc: Loc, value: list[Any], words: str, key: str, limit: int) -> None:
        plural = "" if limit == 1 else "s"
        self.problems.add(
            kind,
            loc,
            f"List should have {words} {limit} item{plural} after validation, not {len(value)}",
            value,
            {"field_type": "List", key: limit, "actual_length": len(value)},
        )


def read_body(body: bytes, problems: Problems | None = None) -> tuple[Fields, Problems]:
    """Return the fields of a request body, and the collector of their problems.

    Raises:
        RequestRefusedError: 422: there is no body, or the body is not JSON.
    """
    problems = problems or Problems()
    if not body:
        problems.add("missing", ("body",), "Field required", None)
        problems.raise_any()
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "Invalid JSON"
        problems.add("json_invalid", ("body", position), "JSON decode error", {}, {"error": reason})
        raise RequestRefusedError(422, problems.found) from None
    return Fields(value, ("body",), problems), problems


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
