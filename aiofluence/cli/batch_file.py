"""Orders of instances, as flags or as TOML, and their conversion to specs, each with its offer.

The caller supplies the text, the offers and the images, so this module makes no requests. It reports every
problem of every instance at once. docs/cli.md documents the format.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import attrs

from ..errors import ConfigError
from ..models.places import pick_location
from ..models.plans import DefaultImage, Offer
from ..models.specs import BareMetalSpec, ContainerSpec, RegistryCredentials, Spec, VMSpec
from ..models.values import Kind
from ..resources.offers import Wanted, why_nothing_fits
from .exit_codes import FAILED, USAGE, CommandError, in_flags, key_as_flag, refusal
from .own_values import read_credentials, read_environment, read_ssh_key, unknown_key

_KEYS: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "name": ((str,), "a text"),
    "count": ((int,), "a whole number"),
    "kind": ((str,), "a text"),
    "plan": ((str,), "a text"),
    "gpu": ((str, list), "a GPU model, or a list of them"),
    "gpu_count": ((int,), "a whole number"),
    "location": ((str,), "a text"),
    "max_hourly": ((str, int, float), "a number"),
    "min_cpus": ((int,), "a whole number"),
    "min_memory": ((str, int), "a size such as 32Gi"),
    "min_storage": ((str, int), "a size such as 100Gi"),
    "min_vram": ((str, int), "a size such as 24Gi"),
    "provider": ((str,), "a text"),
    "image": ((str,), "a text"),
    "expose": ((list, int, str), "a list of ports"),
    "environment": ((dict,), "a table of texts"),
    "pass_environment": ((list,), "a list of names"),
    "startup_command": ((str,), "a text"),
    "ssh_key": ((str,), "a text"),
    "os_image": ((str,), "a text"),
    "credentials": ((dict,), "a table of host, username and password_variable"),
}
_CONDITIONS: Final[Sequence[str]] = (
    "gpu",
    "gpu_count",
    "location",
    "max_hourly",
    "min_cpus",
    "min_memory",
    "min_storage",
    "min_vram",
    "provider",
)
"""The keys by which an offer is chosen if no plan is named."""
_MACHINES_LACK: Final = (
    "image",
    "expose",
    "environment",
    "pass_environment",
    "startup_command",
    "credentials",
)
_LACKS: Final[Mapping[str, Sequence[str]]] = {
    Kind.CONTAINER: ("os_image",),
    Kind.VM: _MACHINES_LACK,
    Kind.BAREMETAL: _MACHINES_LACK,
}
"""The keys that each kind cannot use. They are no mistake in [defaults], which apply to all kinds."""
_SHORTEST_PLAN: Final = 4
"""Number of characters from which on the beginning of a plan's id is accepted in its place."""
_LAUNCH: Final[Mapping[str, tuple[tuple[type, ...], str]]] = {
    "gpu": ((str, list), "a GPU model, or a list of them"),
    "fallback": ((str, list), "a plan or GPU model, or a list of them"),
    "min_ready": ((int,), "a whole number"),
    "max_hourly": ((str, int, float), "a number"),
    "wait_for_capacity": ((str, int), "a time such as 90, 15m, 2h"),
}
"""The keys for the whole launch. `gpu` is for the instances that name neither a plan nor a GPU."""
_TOP: Final = ("defaults", "instance", *_LAUNCH)
_ANY_PLAN: Final = "unknown"
"""Placeholder for a plan that was not found, so that the rest of the spec can still be checked."""


@attrs.frozen
class Item:
    """An instance to deploy, and its offer."""

    spec: Spec
    offer: Offer


class Orders:
    """A set of orders, and their problems. `price` raises all problems, or returns the items to deploy."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._orders: list[_Order] = []
        self.launch: dict[str, Any] = {}
        """Values of the file for the whole launch, by the keys of `_LAUNCH`."""

    @property
    def wants_images(self) -> bool:
        """True if an order may refer to one of the service's own images."""
        return any(_may_be_slug(order.given.get("image")) for order in self._orders)

    def read_toml(
        self, text: str, changes: Mapping[str, Any] | None = None, gpu: Sequence[str] | None = None
    ) -> None:
        """Add the orders of a file. `changes` take precedence over the values of each instance.

        `gpu` takes precedence over the file's `gpu` for the whole launch.

        Raises:
            CommandError: the text is not TOML.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise CommandError(f"this is not TOML: {error}", USAGE) from None
        self._problems += [unknown_key(key, _TOP) for key in document if key not in _TOP]
        self._problems += self._read_launch({key: document[key] for key in _LAUNCH if key in document})
        defaults, instances = document.get("defaults", {}), document.get("instance", [])
        if not isinstance(defaults, dict) or not isinstance(instances, list) or not instances:
            self._problems.append("write [defaults], and at least one [[instance]]")
            return
        # Report these once, not for each instance.
        self._problems += [
            f"defaults: {unknown_key(key, tuple(_KEYS))}" for key in defaults if key not in _KEYS
        ]
        defaults = {key: value for key, value in defaults.items() if key in _KEYS}
        for number, instance in enumerate(instances, 1):
            if not isinstance(instance, dict):
                self._problems.append(f"instance {number}: write it as a table, [[instance]]")
                continue
            own = {**instance, **(changes or {})}
            lacks = _LACKS.get(str(own.get("kind", defaults.get("kind", Kind.CONTAINER))), ())
            usual = {key: value for key, value in defaults.items() if key not in lacks}
            merged = {**usual, **own}
            gpus = gpu or self.launch.get("gpu")
            if gpus is not None and not ({"gpu", "plan"} & merged.keys()):
                merged["gpu"] = gpus
            self.add(merged, f"instance {number}")

    def _read_launch(self, given: Mapping[str, Any]) -> Iterator[str]:
        """Store the valid values for the whole launch, and yield the problems of the others."""
        for key, value in given.items():
            types, wanted = _LAUNCH[key]
            texts = not isinstance(value, list) or all(isinstance(each, str) for each in value)
            if isinstance(value, types) and not isinstance(value, bool) and texts and value != []:
                self.launch[key] = value
            else:
                yield f"{key}: must be {wanted}"

    def add(self, given: Mapping[str, Any], where: str = "") -> None:
        """Add one [[instance]], or flags with the same keys."""
        name = given.get("name")
        order = _Order(f"{where} ({name})" if where and isinstance(name, str) else where)
        for key, value in given.items():
            if key not in _KEYS:
                order.problems.append(unknown_key(key, tuple(_KEYS)))
                continue
            types, wanted = _KEYS[key]
            texts = key != "gpu" or not isinstance(value, list) or all(isinstance(e, str) for e in value)
            if isinstance(value, types) and not isinstance(value, bool) and texts:
                order.given[key] = value
            else:
                order.bad.add(key)
                order.problems.append(f"{key}: must be {wanted}")
        self._orders.append(order)

    def price(
        self,
        offers: Sequence[Offer],
        images: Sequence[DefaultImage] = (),
        others: Callable[[int], Iterable[str]] = lambda _: (),
    ) -> list[Item]:
        """Return the items to deploy, in the order of the file.

        `others` yields further problems of the command, given the number of instances.

        Raises:
            CommandError: an order is invalid or not for rent. The error names every problem.
        """
        items = [item for order in self._orders for item in order.price(offers, images)]
        problems = [*self._problems]
        for order in self._orders:
            problems += [
                f"{order.where}: {problem}" if order.where else key_as_flag(problem)
                for problem in dict.fromkeys(order.problems)
            ]
        names = Counter((spec.kind, spec.name) for order in self._orders for spec in order.specs)
        twice = [(kind, name) for (kind, name), count in names.items() if count > 1]
        problems += [f"name: several {kind}s would be called {name!r}" for kind, name in twice]
        problems += others(sum(len(order.specs) for order in self._orders))
        if problems:
            nothing_fits = sum(order.nothing_fits for order in self._orders)
            raise refusal(
                problems, "nothing was deployed", FAILED if nothing_fits == len(problems) else USAGE
            )
        return items


@attrs.define
class _Order:
    """An [[instance]]: its valid keys, its invalid keys, and its problems."""

    where: str
    given: dict[str, Any] = attrs.field(factory=dict)
    bad: set[str] = attrs.field(factory=set)
    problems: list[str] = attrs.field(factory=list)
    nothing_fits: int = 0
    """Number of problems that are no mistake: no plan for rent fits now."""
    specs: Sequence[Spec] = ()
    """The specs of this order, whether or not their plan is for rent."""

    def price(self, offers: Sequence[Offer], images: Sequence[DefaultImage]) -> list[Item]:
        kind = self._kind()
        offer = None if kind is None else self._offer(kind, offers)
        if kind is None:
            return []
        spec = self._container(offer, images) if kind is Kind.CONTAINER else self._machine(kind, offer)
        self.specs = self._many(spec)
        for each in self.specs or [spec]:
            # Problems of invalid keys are reported already.
            self.problems += [p for p in each.problems() if p.partition(":")[0].split(".")[0] not in self.bad]
        return [] if offer is None else [Item(each, offer) for each in self.specs]

    def _kind(self) -> Kind | None:
        try:
            return Kind(self.given.get("kind", Kind.CONTAINER))
        except ValueError:
            self.problems.append(f"kind: {', '.join(Kind)}, not {self.given['kind']!r}")
            return None

    def _offer(self, kind: Kind, offers: Sequence[Offer]) -> Offer | None:
        given = self.given
        if plan := given.get("plan"):
            found = fitting_plans(offers, plan)
            fitting = [offer for offer in found if offer.kind is kind]
            if len({offer.plan_id for offer in fitting}) > 1 and plan not in {o.name for o in fitting}:
                ids = " ".join(offer.plan_id for offer in fitting)
                self.problems.append(f"plan: {plan!r} is the beginning of several: {ids}")
                return None
            if not fitting:
                other = f"; it is a {found[0].kind}, so say which kind" if found else " is for rent now"
                self.problems.append(f"plan: no {kind} plan {plan!r}{other}")
            return fitting[0] if fitting else None
        conditions = {key: given[key] for key in _CONDITIONS if key in given}
        if self.bad & {"plan", *_CONDITIONS}:
            return None
        if not conditions:
            instead = f"one of {', '.join(_CONDITIONS)}" if self.where else "--gpu, or another condition"
            self.problems.append(f"plan: required; or {instead} to find one")
            return None
        try:
            each = [Wanted.of({"kind": kind, **conditions, "gpu": gpu}) for gpu in self._gpus() or (None,)]
        except ConfigError as error:
            self.problems.append(str(error) if self.where else in_flags(str(error)))
            return None
        fitting = next(filter(None, (wanted.choose(offers) for wanted in each)), [])
        if not fitting:
            self.nothing_fits += 1
            why = "\n".join(why_nothing_fits(offers, wanted) for wanted in each)
            self.problems.append("plan: " + "; ".join(why.splitlines()) if self.where else in_flags(why))
            return None
        return fitting[0]

    def _gpus(self) -> tuple[str, ...]:
        given = self.given.get("gpu", ())
        return (given,) if isinstance(given, str) else tuple(given)

    def _others(self, kind: Kind) -> dict[str, Any]:
        """Return the conditions by which the session replaces a plan that is gone: for several GPU models."""
        gpus = self._gpus()
        # A spec has no provider, and a machine's has no place.
        lacks = ("provider",) if kind is Kind.CONTAINER else ("provider", "location")
        if len(gpus) < 2 or "plan" in self.given or any(key in self.given for key in lacks):
            return {}
        kept = [
            key for key in _CONDITIONS if key in self.given and key not in ("provider", "location", "gpu")
        ]
        return {"gpu": gpus, **{key: self.given[key] for key in kept}}

    def _container(self, offer: Offer | None, images: Sequence[DefaultImage]) -> ContainerSpec:
        given = self.given
        if "os_image" in given:
            self.problems.append("os_image: this is for machines; a container has an image")
        location = given.get("location")
        if offer is not None and location is not None:
            picked = pick_location(offer.locations, location)
            if picked is None:
                where = " ".join(offer.locations)
                self.problems.append(f"location: {location!r} is none of the plan's: {where}")
            location = picked
        fields: dict[str, Any] = {
            "environment": self._environment(),
            "startup_command": given.get("startup_command"),
            "credentials": self._credentials(),
            "location": location,
            "ssh_key": self._ssh_key(),
            **self._others(Kind.CONTAINER),
        }
        name, plan_id = given.get("name", ""), offer.plan_id if offer else _ANY_PLAN
        own = next((image for image in images if image.slug == given.get("image")), None)
        if own is None:
            return ContainerSpec(
                name=name,
                plan_id=plan_id,
                image=given.get("image", ""),
                expose=given.get("expose", ()),
                **fields,
            )
        if own.requires_ssh and fields["ssh_key"] is None and "ssh_key" not in self.bad:
            self.problems.append(f"ssh_key: the image {own.slug!r} needs one")
        of_image = {
            "expose": given.get("expose", own.expose),
            "environment": {**own.environment, **fields["environment"]},
            "startup_command": given.get("startup_command", own.startup_command),
        }
        return own.to_spec(name=name, plan_id=plan_id, **(fields | of_image))

    def _machine(self, kind: Kind, offer: Offer | None) -> VMSpec:
        given = self.given
        self.problems += [f"{key}: this is for containers" for key in _MACHINES_LACK if key in given]
        options = offer.os_options if offer is not None else ()
        os_image = given.get("os_image") or next(iter(options), _ANY_PLAN)
        if options and os_image not in options:
            self.problems.append(f"os_image: {os_image!r} is none of the plan's: {', '.join(options)}")
        machine = VMSpec if kind is Kind.VM else BareMetalSpec
        return machine(
            name=given.get("name", ""),
            plan_id=offer.plan_id if offer else _ANY_PLAN,
            ssh_key=self._ssh_key() or "",
            os_image=os_image,
            **self._others(kind),
        )

    def _many(self, spec: ContainerSpec | VMSpec) -> Sequence[Spec]:
        count = self.given.get("count")
        if not spec.name:
            if "name" not in self.bad:
                self.problems.append("name: required")
            self.bad.add("name")
            return []
        if count is None and "{" not in spec.name:
            return [spec]
        if count is not None and not 1 <= count <= 10_000:
            self.problems.append(f"count: {count} is not 1 to 10000")
            return [spec]
        try:
            return spec.many(count or 1)
        except ValueError as error:
            self.bad.add("name")
            self.problems.append(f"name: {error}")
            return []

    def _environment(self) -> dict[str, str]:
        given = self.given
        return read_environment(
            given.get("environment", {}), given.get("pass_environment", []), self.problems
        )

    def _credentials(self) -> RegistryCredentials | None:
        if "credentials" not in self.given:
            return None
        before = len(self.problems)
        credentials = read_credentials(self.given["credentials"], self.problems)
        if len(self.problems) > before:
            self.bad.add("credentials")
        return credentials

    def _ssh_key(self) -> str | None:
        try:
            return read_ssh_key(self.given.get("ssh_key"))
        except OSError as error:
            self.bad.add("ssh_key")
            self.problems.append(f"ssh_key: neither the text of a public key nor a file: {error.strerror}")
            return None


def fitting_plans(offers: Sequence[Offer], plan: str) -> list[Offer]:
    """Return the offers with this plan id or name, else those whose plan id begins so."""
    exact = [offer for offer in offers if plan in (offer.plan_id, offer.name)]
    return exact or [o for o in offers if len(plan) >= _SHORTEST_PLAN and o.plan_id.startswith(plan)]


def _may_be_slug(image: object) -> bool:
    return isinstance(image, str) and "/" not in image and ":" not in image
