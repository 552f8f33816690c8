"""The arguments of the session's verbs, checked before the first request: all problems in one error.

Each `..._problems` yields sentences, and `refuse` raises them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from math import isfinite
from numbers import Real
from typing import Any, Final, TypeGuard, TypeVar

from ..errors import ConfigError, SpecError
from ..http.codec import check
from ..models.plans import Offer
from ..models.specs import Deployable, Spec, plan_problems
from ..models.updates import ContainerUpdate
from ..resources.offers import conditions_of, read_money
from .wait import Until, deadline_in

T = TypeVar("T")

_QUOTED: Final = 80
"""Number of characters of a wrong value that an error repeats."""


def refuse(*problems: Iterable[str], specs: Sequence[object] = ()) -> None:
    """Raise all problems together, those of the specs first.

    Raises:
        SpecError: the service would refuse a spec. The other problems follow in the same error.
        ConfigError: only other arguments have problems.
    """
    known: list[Any] = [spec for spec in specs if isinstance(spec, Deployable)]
    found = [*_no_specs(specs), *_condition_problems(known), *chain.from_iterable(problems)]
    try:
        check(known)
    except SpecError as error:
        raise SpecError([*error.problems, *found]) from None
    if len(found) == 1:
        raise ConfigError(f"{found[0]}; nothing was sent")
    if found:
        raise ConfigError("\n".join((f"{len(found)} problem(s), nothing was sent:", *found)))


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


def until_problems(until: object) -> Iterator[str]:
    """Problems of an `until` that is neither an `Until` nor the text of one."""
    if until not in {*Until, *(each.value for each in Until)}:
        names = ", ".join(f"{each} ({each.value!r})" for each in Until)
        yield f"until is one of {names}, not {_quoted(until)}"


def timeout_problems(timeout: object) -> Iterator[str]:
    """Problems of a `timeout` that is no number of seconds."""
    if timeout is not None and not _is_seconds(timeout):
        yield f"timeout is a number of seconds or None, not {_quoted(timeout)}"


def capacity_problems(wait_for_capacity: object) -> Iterator[str]:
    """Problems of a `wait_for_capacity` that is no finite number of seconds."""
    if wait_for_capacity is not None and not (_is_seconds(wait_for_capacity) and isfinite(wait_for_capacity)):
        yield f"wait_for_capacity is a number of seconds or None, not {_quoted(wait_for_capacity)}"


def _is_seconds(value: object) -> TypeGuard[float]:
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) >= 0


def on_failure_problems(on_failure: object) -> Iterator[str]:
    """Problems of an `on_failure` that is neither of its two values."""
    if on_failure not in ("terminate", "keep"):
        yield f"on_failure is 'terminate' or 'keep', not {_quoted(on_failure)}"


def adopt_problems(adopt: object) -> Iterator[str]:
    """Problems of an `adopt` that is no bool."""
    if not isinstance(adopt, bool):
        yield f"adopt is True or False, not {_quoted(adopt)}"


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


def progress_problems(on_progress: object) -> Iterator[str]:
    """Problems of an `on_progress` that cannot be called."""
    if on_progress is not None and not callable(on_progress):
        yield f"on_progress is a function or None, not {_quoted(on_progress)}"


def update_problems(update: object) -> Iterator[str]:
    """Problems of an `update` that is no ContainerUpdate."""
    if not isinstance(update, ContainerUpdate):
        yield f"update is a ContainerUpdate, not a {type(update).__name__}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
