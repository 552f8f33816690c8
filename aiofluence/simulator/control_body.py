"""Bodies of the control API: one JSON object, read field by field.

Every problem is reported at once. Which fields a path takes is `control`'s business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn


class BadRequestError(Exception):
    """The body is not what the path takes."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems)
        self.problems = problems


REQUIRED: Final[Any] = object()
"""Default of a field that has none."""


class Body:
    """Reads one JSON object field by field, noting every problem; `done` raises them all.

    What a field that is wrong reads as is not to be used: call `done` first.
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
        """A field. Where it may be absent its default is what it may be as well."""
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
        """Every field that was not read so far; the caller checks their names."""
        rest = {name: value for name, value in self._values.items() if name not in self._known}
        self.allow(*rest)
        return rest

    def one_of(self, name: str, options: tuple[str, ...], default: str | None = REQUIRED) -> Any:
        value = self.take(name, f"one of {', '.join(options)}", lambda text: text in options, default)
        return value if value in options else None

    def allow(self, *names: str) -> None:
        """Fields that may be there."""
        self._known += names

    def done(self) -> None:
        """Raise what was found, and the fields that nobody asked for.

        Raises:
            BadRequestError: there was something.
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
