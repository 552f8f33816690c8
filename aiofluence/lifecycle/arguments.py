"""The arguments of the session's verbs, checked before the first request.

All problems are in one error. `until`, `timeout` and the like are checked here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from math import isfinite
from numbers import Real
from typing import Any, Final, TypeVar

from ..errors import ConfigError, SpecError
from ..http.codec import check
from ..models.plans import Offer
from ..models.specs import Deployable, Spec, plan_problems
from ..models.updates import ContainerUpdate
from ..resources.offers import conditions_of, read_money
from .options import Until
from .wait import deadline_in

T = TypeVar("T")

_QUOTED: Final = 80
"""Number of characters of a wrong value that an error repeats."""


def _is_seconds(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) >= 0


_ARGUMENTS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "until": (
        lambda value: value in (*Until, *(each.value for each in Until)),
        f"one of {', '.join(f'{each} ({each.value!r})' for each in Until)}",
    ),
    "timeout": (lambda value: value is None or _is_seconds(value), "a number of seconds or None"),
    "wait_for_capacity": (
        lambda value: value is None or (_is_seconds(value) and isfinite(value)),
        "a number of seconds or None",
    ),
    "on_failure": (lambda value: value in ("terminate", "keep"), "'terminate' or 'keep'"),
    "adopt": (lambda value: isinstance(value, bool), "True or False"),
    "on_progress": (lambda value: value is None or callable(value), "a function or None"),
}
"""Arguments of several verbs: a test of the value, and the words for a right one."""


def refuse(*problems: Iterable[str], specs: Sequence[object] = (), **arguments: object) -> None:
    """Raise the problems of specs and arguments together.

    Args:
        problems: sentences about other arguments.
        specs: specs to check.
        arguments: values to check, by the names in `_ARGUMENTS`.

    Raises:
        SpecError: the service would refuse a spec. The other problems follow in the same error.
        ConfigError: only other arguments have problems.
    """
    known: list[Any] = [spec for spec in specs if isinstance(spec, Deployable)]
    found = [*_no_specs(specs), *_condition_problems(known)]
    for name, value in arguments.items():
        fits, wanted = _ARGUMENTS[name]
        if not fits(value):
            found.append(f"{name} is {wanted}, not {_quoted(value)}")
    found += chain.from_iterable(problems)
    try:
        check(known)
    except SpecError as error:
        raise SpecError([*error.problems, *found]) from None
    if len(found) == 1:
        raise ConfigError(f"{found[0]}; nothing was sent")
    if found:
        raise ConfigError("\n".join((f"{len(found)} problems, nothing was sent:", *found)))


def _condition_problems(specs: Sequence[Spec]) -> Iterator[str]:
    for spec in specs:
        try:
            conditions_of(spec)
        except ConfigError as error:
            yield f"{spec.name}: {error}" if len(specs) > 1 else str(error)


def _no_specs(specs: Sequence[object]) -> Iterator[str]:
    for index, spec in enumerate(specs):
        if not isinstance(spec, Deployable):
            where = f"specs[{index}]" if len(specs) > 1 else "spec"
            yield f"{where} is a ContainerSpec, VMSpec or BareMetalSpec, not {_quoted(spec)}"


def as_list(specs: Iterable[T]) -> list[T]:
    """Return the specs as a list.

    Raises:
        ConfigError: `specs` is no list or other iterable, such as a single spec.
    """
    given: object = specs
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ConfigError(f"specs is a list of specs, not {_quoted(given)}; nothing was sent")
    return list(specs)


def deadlines(timeout: float | None, wait_for_capacity: float | None) -> tuple[float | None, float | None]:
    """Loop times of the end of a deploy and its wait, and of the end of the wait for a plan before it."""
    capacity_until = deadline_in(wait_for_capacity)
    return (None if timeout is None else deadline_in(timeout + (wait_for_capacity or 0))), capacity_until


def quorum_problems(min_ready: object, count: int) -> Iterator[str]:
    """Problems of a `min_ready` that `count` specs cannot meet."""
    if min_ready is None:
        return
    if not isinstance(min_ready, int) or isinstance(min_ready, bool) or not 0 <= min_ready <= count:
        yield f"min_ready is a whole number from 0 to {count} or None, not {_quoted(min_ready)}"


def money_problems(max_hourly: Decimal | float | str | None) -> Iterator[str]:
    """Problems of a `max_hourly` that is no amount."""
    try:
        read_money(max_hourly)
    except ConfigError as error:
        yield str(error)


def fallback_problems(fallback: Sequence[object]) -> Iterator[str]:
    """Problems of fallbacks that are neither a plan id, an offer nor a function."""
    for index, each in enumerate(fallback):
        is_id = isinstance(each, str) and not list(plan_problems(each))
        if not (is_id or isinstance(each, Offer) or callable(each)):
            where = f"fallback[{index}]" if len(fallback) > 1 else "fallback"
            yield f"{where} is the id of a plan, an Offer or a function, not {_quoted(each)}"


def update_problems(update: object) -> Iterator[str]:
    """Problems of an `update` that is no ContainerUpdate. Its value may have secrets, and is not shown."""
    if not isinstance(update, ContainerUpdate):
        yield f"update is a ContainerUpdate, not a {type(update).__name__}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
