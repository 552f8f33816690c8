"""The arguments of the session's verbs, checked before the first request: all problems in one error.

Each `..._problems` yields sentences, and `refuse` raises them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain
from numbers import Real
from typing import Final, TypeVar

from ..errors import ConfigError, SpecError
from ..http.codec import check
from ..models.plans import Offer
from ..models.specs import ContainerSpec, VMSpec, plan_problems
from ..models.updates import ContainerUpdate
from ..resources.offers import read_money
from .wait import Until

T = TypeVar("T")

_QUOTED: Final = 80
"""Number of characters of a wrong value that an error repeats."""


def refuse(*problems: Iterable[str], specs: Sequence[object] = ()) -> None:
    """Raise all problems together, those of the specs first.

    Raises:
        SpecError: the service would refuse a spec. The other problems follow in the same error.
        ConfigError: only other arguments have problems.
    """
    found = [*_no_specs(specs), *chain.from_iterable(problems)]
    try:
        check([spec for spec in specs if isinstance(spec, ContainerSpec | VMSpec)])
    except SpecError as error:
        raise SpecError([*error.problems, *found]) from None
    if len(found) == 1:
        raise ConfigError(f"{found[0]}; nothing was sent")
    if found:
        raise ConfigError("\n".join((f"{len(found)} problem(s), nothing was sent:", *found)))


def _no_specs(specs: Sequence[object]) -> Iterator[str]:
    for index, spec in enumerate(specs):
        if not isinstance(spec, ContainerSpec | VMSpec):
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


def until_problems(until: object) -> Iterator[str]:
    """Problems of an `until` that is no `Until`."""
    if not isinstance(until, Until):
        yield f"until is one of {', '.join(map(str, Until))}, not {_quoted(until)}"


def timeout_problems(timeout: object) -> Iterator[str]:
    """Problems of a `timeout` that is no number of seconds."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not float(timeout) >= 0:
        yield f"timeout is a number of seconds or None, not {_quoted(timeout)}"


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
