"""The choice among offers: conditions, the offers that fit, and an explanation when none fits.

Pure: `plans` requests the offers. Only this module checks and compares the arguments of `Plans.find`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import attrs

from ..display.table import short
from ..errors import ConfigError
from ..models.money import MOST, read_amount
from ..models.places import country_named, is_at
from ..models.plans import Offer
from ..models.specs import CONDITIONS, Spec, VMSpec, chooses_plan
from ..models.values import Kind, Size

_TEXTS: Final = ("gpu", "location", "provider")
_COUNTS: Final = ("gpu_count", "min_cpus")
_SIZES: Final = ("min_memory", "min_storage", "min_vram")
_LEAST_SIZE: Final = 2**20
"""Bytes of the smallest size. A smaller one lacks its unit: `80` for `80Gi`."""
_NEAR: Final = 3
"""Maximum number of suggestions for a name that is not for rent."""
_ALIKE: Final = 0.6
"""Minimum similarity (difflib's ratio) of a suggested name."""


@attrs.frozen(kw_only=True)
class Wanted:
    """Checked conditions that an offer must meet. A condition of None accepts every offer."""

    kind: Kind | None = None
    gpu: str | None = None
    gpu_count: int | None = None
    location: str | None = None
    max_hourly: Decimal | None = None
    min_cpus: int | None = None
    min_memory: Size | None = None
    min_storage: Size | None = None
    min_vram: Size | None = None
    provider: str | None = None
    os_image: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Wanted:
        """Check the conditions as a caller writes them.

        Raises:
            ConfigError: names every invalid argument.
        """
        problems: list[str] = []
        read: dict[str, Any] = dict(given)
        kind = given.get("kind")
        if kind is not None and kind not in tuple(Kind):
            problems.append(f"kind is {', '.join(Kind)} or None, not {_quoted(kind)}")
        else:
            read["kind"] = None if kind is None else Kind(str(kind))
        for name in _TEXTS:
            if (text := given.get(name)) is not None and not isinstance(text, str):
                problems.append(f"{name} is a text, not {_quoted(text)}")
            elif text is not None and not text.strip():
                problems.append(f"{name} is empty; leave it out to take any")
        problems += [
            f"{name} is a whole number from 1, not {_quoted(number)}"
            for name in _COUNTS
            if (number := given.get(name)) is not None and (type(number) is not int or number < 1)
        ]
        for name in _SIZES:
            try:
                read[name] = _read_size(given.get(name))
            except ValueError:
                problems.append(f"{name} is a size with a unit, such as '32Gi', not {_quoted(given[name])}")
        try:
            read["max_hourly"] = read_money(given.get("max_hourly"))
        except ConfigError as error:
            problems.append(str(error))
        if problems:
            raise ConfigError("; ".join(problems))
        return cls(**read)

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions that are not None, by name."""
        return {
            field.name: value
            for field in attrs.fields(type(self))
            if (value := getattr(self, field.name)) is not None
        }

    def choose(self, offers: Iterable[Offer]) -> list[Offer]:
        """Return the `offers` that fit, cheapest first."""
        conditions = [(_FITS[name], value) for name, value in self.conditions.items()]
        fitting = (offer for offer in offers if all(fits(offer, value) for fits, value in conditions))
        return sorted(fitting, key=lambda offer: (offer.hourly, offer.name, offer.plan_id))

    def __str__(self) -> str:
        return (
            ", ".join(_describe_condition(name, value) for name, value in self.conditions.items())
            or "no condition"
        )


_FITS: Final[Mapping[str, Callable[[Offer, Any], bool]]] = {
    "kind": lambda offer, kind: offer.kind is kind,
    "gpu": lambda offer, gpu: _same_gpu(gpu, offer.gpu_model.model),
    "gpu_count": lambda offer, count: offer.gpu_count == count,
    "location": lambda offer, wanted: any(is_at(location, wanted) for location in offer.locations),
    "max_hourly": lambda offer, ceiling: offer.hourly <= ceiling,
    "min_cpus": lambda offer, least: offer.vcpu >= least,
    "min_memory": lambda offer, least: offer.memory >= least,
    "min_storage": lambda offer, least: offer.storage >= least,
    "min_vram": lambda offer, least: offer.gpu_model.vram >= least,
    "provider": lambda offer, name: offer.provider is not None and _letters(name) == _letters(offer.provider),
    "os_image": lambda offer, image: not offer.os_options or image in offer.os_options,
}


def conditions_of(spec: Spec) -> list[Wanted]:
    """Return the conditions that choose a plan of `spec`, for one GPU model after the other.

    Raises:
        ConfigError: names every invalid condition of the first model that has one.
    """
    if not chooses_plan(spec):
        return []
    given: dict[str, Any] = {name: getattr(spec, name) for name in CONDITIONS}
    given |= {
        "kind": spec.kind,
        "gpu_count": 1 if spec.gpu_count is None else spec.gpu_count,
        "location": spec.location,
    }
    if isinstance(spec, VMSpec):
        given |= {"provider": spec.provider, "os_image": spec.os_image or None}
    return [Wanted.of({**given, "gpu": gpu}) for gpu in spec.gpu or (None,)]


def on_offer(spec: Spec, offer: Offer) -> Spec | None:
    """Return `spec` with the plan of `offer`, or None if the offer is of another kind or elsewhere."""
    if offer.kind is not spec.kind:
        return None
    if isinstance(spec, VMSpec):
        # Providers spell one system differently, and an image must have the spelling of its offer.
        known = not offer.os_options or spec.os_image in offer.os_options
        image = spec.os_image if known else offer.os_options[0]
        return attrs.evolve(spec, plan_id=offer.plan_id, os_image=image)
    if spec.location is not None and spec.location not in offer.locations:
        return None
    return attrs.evolve(spec, plan_id=offer.plan_id)


def why_nothing_fits(offers: Sequence[Offer], wanted: Wanted) -> str:
    """Explain that no offer fits: similar names, and the cheapest offer without each single condition."""
    lines = [f"nothing for rent fits {wanted}"]
    lines += _close_names(offers, wanted)
    less = []
    for name, value in wanted.conditions.items():
        fitting = attrs.evolve(wanted, **{name: None}).choose(offers)
        if fitting:
            less.append(f"without {_describe_condition(name, value)}: {_describe_offer(fitting[0])}")
    if not less and len(wanted.conditions) > 1 and offers:
        less.append("nothing fits without any one of these conditions either")
    return "\n".join(lines + less)


def _close_names(offers: Sequence[Offer], wanted: Wanted) -> Iterable[str]:
    """Iterate over one line for each wanted name that no offer has."""
    of_kind = [offer for offer in offers if wanted.kind in (None, offer.kind)]
    have = {
        "gpu": {offer.gpu_model.model for offer in of_kind},
        "location": {location for offer in of_kind for location in offer.locations},
        "provider": {offer.provider for offer in of_kind if offer.provider is not None},
    }
    for name, known in have.items():
        asked = getattr(wanted, name)
        if asked is None or any(_FITS[name](offer, asked) for offer in of_kind):
            continue
        # Two countries with similar letters are not close to each other.
        near = [] if name == "location" and country_named(asked) is not None else _near(asked, known)
        alike = f"; close to it: {', '.join(map(short, near))}" if near else ""
        yield f"no {name} {short(asked)!r} is for rent{alike}"


def _near(asked: str, known: Iterable[str]) -> list[str]:
    """Return the `known` names similar to `asked`: one contains the other, or most letters agree."""
    names = {_letters(name): name for name in sorted(known)}
    want = _letters(asked)[:100]
    parts = [name for name in names if want and name and (want in name or name in want)]
    from difflib import get_close_matches

    alike = get_close_matches(want, [name[:100] for name in names], n=_NEAR, cutoff=_ALIKE)
    return [names[name] for name in dict.fromkeys([*alike, *parts]) if name in names][:_NEAR]


def _describe_condition(name: str, value: object) -> str:
    text = f"{value:f}" if isinstance(value, Decimal) else str(value)
    return f"{name}={short(text)}"


def _describe_offer(offer: Offer) -> str:
    where = short("/".join(offer.locations))
    return (
        f"{offer.gpu_count}x {short(offer.gpu_model.model)} {offer.gpu_model.vram}, {offer.vcpu} CPUs, "
        f"{offer.memory}, {offer.storage} disk, {where}, {offer.hourly:f} USDC an hour"
        f" ({offer.kind} plan {short(offer.name)})"
    )


def read_money(amount: Decimal | float | str | None) -> Decimal | None:
    """Convert an amount in any accepted form to Decimal; None stays None.

    Raises:
        ConfigError: `amount` is no amount.
    """
    if amount is None:
        return None
    try:
        return read_amount(amount.strip() if isinstance(amount, str) else amount)
    except ValueError:
        problem = f"max_hourly is an amount of money from 0 to {MOST}, not {_quoted(amount)}"
    raise ConfigError(problem)


def _read_size(given: object) -> Size | None:
    """Convert a size in any accepted form to `Size`; None stays None.

    Raises:
        ValueError: `given` is no size.
    """
    if given is None or isinstance(given, Size):
        return given
    if not isinstance(given, str) and type(given) is not int:
        raise ValueError
    size = Size.parse(str(given))
    if 0 < size.bytes < _LEAST_SIZE:
        raise ValueError
    return size


def _quoted(given: object) -> str:
    """Return the repr of an argument, shortened, or its type if the repr is too long for Python."""
    try:
        text = repr(given)
    except ValueError:  # an integer with more than 4300 digits
        return type(given).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def _letters(name: str) -> str:
    return "".join(re.findall(r"[^\W_]+", name.casefold()))


def _same_gpu(asked: str, model: str) -> bool:
    """Return True if whole words match: `l4` does not match `l40s`, but `a100` matches `a100-80gb`."""
    have = re.findall(r"[a-z0-9]+", model.lower())
    want = re.findall(r"[a-z0-9]+", asked.lower())
    return "".join(want) == "".join(have) or (bool(want) and set(want) <= set(have))
