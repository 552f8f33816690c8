"""Bodies of the control API: one JSON object, read field by field.

All problems of a body are reported together. `control_api` decides which fields a path accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn


class BadRequestError(Exception):
    """The body does not fit the path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


REQUIRED: Final[Any] = object()
"""Default that marks a required field."""


class Body:
    """Reader of one JSON object that collects the problems of all fields. `done` raises them.

    Call `done` before using any value: the value of a wrong field is meaningless.
    """

    def __init__(self, raw: bytes) -> None:
        self.problems: list[str] = []
        self._known: list[str] = []
        try:
            values = json.loads(raw, parse_constant=_no_constant) if raw.strip() else {}
        except (ValueError, RecursionError) as error:
            raise BadRequestError([f"the body is not JSON: {error}"]) from None
        if not isinstance(values, dict):
            raise BadRequestError(["the body must be a JSON object"])
        self._values: Mapping[str, Any] = values

    def take(self, name: str, expected: str, fits: Callable[[Any], bool], default: Any = REQUIRED) -> Any:
        """Read a field. An optional field also accepts its default as a value."""
        self.allow(name)
        if name not in self._values:
            if default is REQUIRED:
                self.problems.append(f"{name}: required; must be {expected}")
            return default
        value = self._values[name]
        if not (value is None and default is None) and not fits(value):
            given = json.dumps(value)
            shown = given if len(given) <= 60 else f"{given[:60]}…"
            self.problems.append(f"{name}: must be {expected}, not {shown}")
        return value

    def json(self, name: str, *, required: bool = False) -> Any:
        return self.take(name, "JSON", lambda value: True, REQUIRED if required else None)

    def headers(self) -> Any:
        return self.take("headers", "an object of header names and texts", _are_headers, None)

    def integer(self, name: str, least: int, most: int, default: int | None = REQUIRED) -> Any:
        expected = f"an integer from {least} to {most}"
        return self.take(name, expected, lambda n: type(n) is int and least <= n <= most, default)

    def number(self, name: str, least: float, most: float, default: float | None = REQUIRED) -> Any:
        expected = f"a number from {least:g} to {most:,.0f}"
        return self.take(name, expected, lambda n: type(n) in (int, float) and least <= n <= most, default)

    def text(self, name: str) -> Any:
        return self.take(name, "a text", lambda value: isinstance(value, str))

    def rest(self) -> dict[str, Any]:
        """Return every field that was not read so far. The caller checks their names."""
        rest = {name: value for name, value in self._values.items() if name not in self._known}
        self.allow(*rest)
        return rest

    def one_of(self, name: str, options: tuple[str, ...], default: str | None = REQUIRED) -> Any:
        value = self.take(name, f"one of {', '.join(options)}", lambda text: text in options, default)
        return value if value in options else None

    def allow(self, *names: str) -> None:
        """Mark fields as permitted."""
        self._known += names

    def done(self) -> None:
        """Raise all collected problems, including one for each field that was not read.

        Raises:
            BadRequestError: there is a problem.
        """
        for name in sorted(self._values.keys() - set(self._known)):
            self.problems.append(f"{name}: no such field here; there are {', '.join(self._known) or 'none'}")
        if self.problems:
            raise BadRequestError(self.problems)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(text, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        and re.fullmatch(r"[ -~]*", text)
        for name, text in value.items()
    )
