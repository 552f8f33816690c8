"""Specs of containers, VMs and bare-metal machines, and the rules for valid specs.

An invalid spec can be built. `problems()` then names everything that the service would refuse, and
`http.codec.payload` refuses to send it. A whole batch is thus checked before its first instance costs money.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar, cast

import attrs

from .instances import Container, Machine
from .public_key import public_key_problem
from .values import Environment, Kind, Port, PortLike, PortProtocol, Size, ports_from

SSH_VARIABLE: Final = "SSH_PUBKEY"
"""Variable with which the service passes the SSH key to a container. Reserved if `ssh_key` is given."""

_OWN_IMAGES = re.compile(r"(?:docker\.io/)?fluencelabs/")
"""Repository of the service's own images, which run sshd and read `SSH_VARIABLE`."""

_SSH_PORT: Final = 22
_NAME_LENGTH: Final = 25
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_REGISTRIES: Final = ("docker.io", "ghcr.io")

_InstanceT = TypeVar("_InstanceT", covariant=True)

SizeLike: TypeAlias = Size | str | int
"""A size in any accepted form: `"32Gi"`, `"32GB"`, `Size.parse("32Gi")`, or bytes.

Less than 1 MiB is an error, because the unit is missing.
"""


def unique_name(prefix: str) -> str:
    """Append a random suffix of 40 bits to `prefix`, within the 25 characters of a valid name.

    A longer prefix is cut. A lost deploy can only be found by its name, so each instance needs its own.

    Raises:
        ValueError: the prefix has other characters than `a-z 0-9 -`, or starts with `-`.
    """
    suffix = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(8))
    stem = prefix[: _NAME_LENGTH - len(suffix) - 1].rstrip("-")
    if prefix and not _NAME.fullmatch(stem):
        raise ValueError(f"a name is made of a-z, 0-9 and inner '-': {prefix!r}")
    return f"{stem}-{suffix}" if stem else suffix


@attrs.frozen
class RegistryCredentials:
    """Login for a private registry. `host` is `docker.io` or `ghcr.io`. No repr shows the password."""

    host: str
    username: str
    password: str = attrs.field(repr=False)

    def problems(self) -> Iterator[str]:
        """Iterate over everything that the service would refuse, one sentence each."""
        if self.host not in _REGISTRIES:
            yield f"credentials.host: {self.host!r} is not one of {', '.join(_REGISTRIES)}"
        for field in ("username", "password"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value:
                yield f"credentials.{field}: required"


def _read_ports(written: Iterable[PortLike] | PortLike) -> tuple[Port, ...]:
    """Convert each port to `Port`. An invalid value is kept unchanged, so that `problems()` can name it."""
    given: object = written
    several = isinstance(given, Iterable) and not isinstance(given, str)
    ports: list[Any] = []
    for item in cast(Iterable[PortLike], given) if several else [cast(PortLike, given)]:
        try:
            ports.extend(ports_from(item))
        except ValueError:
            ports.append(item)
    return tuple(ports)


def read_environment(written: Mapping[str, str]) -> Environment:
    """Convert variables to `Environment`. An invalid value is kept, so that `problems()` can name it."""
    given: object = written
    return Environment(given) if isinstance(given, Mapping) else cast(Environment, given)


def _upper(text: str | None) -> str | None:
    return text.upper() if isinstance(text, str) else text


def read_names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Convert one name, several or none to a tuple. An invalid value is kept, so that a check can name it."""
    if given is None or isinstance(given, str) or not isinstance(given, Iterable):
        return () if given is None else (given,)
    return tuple(given)


CONDITIONS: Final = ("gpu_count", "max_hourly", "min_cpus", "min_memory", "min_storage", "min_vram")
"""The fields of every spec that, beside `gpu`, choose a plan."""


@attrs.frozen(kw_only=True, repr=False)
class Deployable(Generic[_InstanceT]):
    """The fields that all specs share: a name, and a plan or the conditions that choose one.

    Without `plan_id`, a deploy takes the cheapest plan that fits the conditions at that moment. With both, a
    plan that fits replaces the plan of `plan_id` when that is sold out.

    Attributes:
        name: 1-25 characters of `a-z 0-9 -`. A lost deploy is found by its name.
        plan_id: an `Offer.plan_id` (the id of a `ContainerPlan` or `MachineOption`). Empty to choose a plan
            by the conditions.
        gpu: GPU models, as in `plans.find`. The first model with a plan for rent counts.
        gpu_count: exact number of GPUs. None for one.
        max_hourly: maximum price per hour. None for any.
        min_cpus: minimum number of virtual CPUs. None for any.
        min_memory: minimum memory: `"32Gi"`, `"32GB"`, a `Size` or bytes. None for any.
        min_storage: minimum storage, in the same forms. None for any.
        min_vram: minimum memory of each GPU, in the same forms. None for any.
    """

    kind: ClassVar[Kind]

    name: str
    plan_id: str = ""
    gpu: tuple[str, ...] = attrs.field(default=(), converter=read_names)
    gpu_count: int | None = None
    max_hourly: Decimal | float | str | None = None
    min_cpus: int | None = None
    min_memory: SizeLike | None = None
    min_storage: SizeLike | None = None
    min_vram: SizeLike | None = None

    def problems(self) -> list[str]:
        """Return everything in this spec that the service would refuse, one sentence each."""
        needs_plan = self.plan_id != "" or not chooses_plan(self)
        return [*name_problems(self.name), *(plan_problems(self.plan_id) if needs_plan else ())]

    def doubts(self, own_images: Collection[str] = ()) -> list[str]:
        """Return reasons for which SSH will probably not work, although the service accepts the spec.

        `own_images` has further images of the service itself, such as those from `images.list()`.
        """
        return []

    def many(self, count: int) -> list[Self]:
        """Make `count` copies with names from this spec's: `exp-{i:03}` gives `exp-000`, `exp-001`, ...

        Raises:
            ValueError: the name has no valid `{i}`.
        """
        try:
            names = [self.name.format(i=index) for index in range(count)]
        except (ValueError, LookupError, AttributeError):
            names = []
        if len(set(names)) != count:
            raise ValueError(
                f"a name for many is written with {{i}}, such as 'exp-{{i:03}}', not {self.name!r}"
            )
        return [attrs.evolve(self, name=name) for name in names]

    def __repr__(self) -> str:
        # Secret fields are left out, and so are fields with their default.
        shown = [
            f"{field.name}={value!r}"
            for field in attrs.fields(type(self))
            if field.repr and (value := getattr(self, field.name)) not in (field.default, Environment())
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@attrs.frozen(kw_only=True, repr=False)
class ContainerSpec(Deployable[Container]):
    """A container to deploy. `Deployable` has the fields that choose its plan.

    Attributes:
        image: full reference of the image, lower case, at most 255 characters.
        expose: 1-10 ports, in any of these forms: `22`, `"80/http"`, `"53/udp"`, `"5000-5005"`, `Port(22)`.
        environment: at most 64 variables, with names of `A-Z 0-9 _`. No repr shows the values.
        startup_command: replacement for the image's entrypoint, at most 2048 characters; None keeps it.
        credentials: login for a private registry; None for a public image.
        location: two-letter country, one of the plan's; None leaves the choice to the service.
        ssh_key: text of a public key; None for no key. The container gets it as `SSH_PUBKEY`, a variable
            that is then reserved.
    """

    kind: ClassVar[Kind] = Kind.CONTAINER

    image: str
    expose: tuple[Port, ...] = attrs.field(converter=_read_ports)
    environment: Environment = attrs.field(factory=Environment, converter=read_environment)
    startup_command: str | None = attrs.field(default=None, repr=False)
    credentials: RegistryCredentials | None = None
    location: str | None = attrs.field(default=None, converter=_upper)
    ssh_key: str | None = attrs.field(default=None, repr=False)

    def problems(self) -> list[str]:
        """Return everything in this spec that the service would refuse, one sentence each."""
        return [
            *super().problems(),
            *settings_problems(self.image, self.environment, self.startup_command, self.credentials),
            *_expose_problems(self.expose),
            *_location_problems(self.location),
            *ssh_problems(self.ssh_key, self.environment),
        ]

    def doubts(self, own_images: Collection[str] = ()) -> list[str]:
        """Return reasons for which SSH will probably not work; see `Deployable.doubts`."""
        return ssh_doubts(self, self.expose, own_images)


@attrs.frozen(kw_only=True, repr=False)
class VMSpec(Deployable[Machine]):
    """A virtual machine to deploy. `Deployable` has the fields that choose its plan.

    Attributes:
        ssh_key: text of a public key, required. No repr shows it.
        os_image: one of the option's `os_options`, letter for letter. Empty for the first.
        location: a location or country, as in `plans.find`, to choose a plan. None for any.
        provider: provider, as in `plans.find`, to choose a plan. None for any.
    """

    kind: ClassVar[Kind] = Kind.VM

    ssh_key: str = attrs.field(repr=False)
    os_image: str = ""
    location: str | None = None
    provider: str | None = None

    def problems(self) -> list[str]:
        """Return everything in this spec that the service would refuse, one sentence each."""
        return [
            *super().problems(),
            *(ssh_problems(self.ssh_key) if self.ssh_key else ["ssh_key: required for a machine"]),
        ]


@attrs.frozen(kw_only=True, repr=False)
class BareMetalSpec(VMSpec):
    """A bare-metal machine to deploy. Its fields are those of VMSpec."""

    kind: ClassVar[Kind] = Kind.BAREMETAL


Spec: TypeAlias = ContainerSpec | VMSpec | BareMetalSpec


def chooses_plan(spec: Deployable[Any]) -> bool:
    """Return True if conditions choose a plan, at once or after `plan_id` is sold out."""
    return bool(spec.gpu) or any(getattr(spec, name) is not None for name in CONDITIONS)


def is_complete(spec: Spec) -> bool:
    """Return True if `spec` can be sent without a request of the plans for rent."""
    return bool(spec.plan_id and (isinstance(spec, ContainerSpec) or spec.os_image))


def name_problems(name: object) -> Iterator[str]:
    if not isinstance(name, str) or not 1 <= len(name) <= _NAME_LENGTH or not _NAME.fullmatch(name):
        yield f"name: {name!r} is not 1-25 characters of a-z, 0-9 and inner '-'"


def plan_problems(plan_id: object) -> Iterator[str]:
    if plan_id == "":
        yield "plan_id: required; or gpu, to take the cheapest plan with that GPU"
    elif not isinstance(plan_id, str) or not _ID.fullmatch(plan_id):
        yield f"plan_id: {plan_id!r} is not the id of a plan"


def _expose_problems(expose: tuple[object, ...]) -> Iterator[str]:
    if not 1 <= len(expose) <= 10:
        yield f"expose: {len(expose)} ports; a container exposes 1 to 10"
    for index, port in enumerate(expose):
        where = f"expose[{index}]"
        if not isinstance(port, Port):
            try:
                ports_from(cast(PortLike, port))
            except ValueError as error:
                yield f"{where}: {error}"
            continue
        if not 1 <= port.number <= 65535:
            yield f"{where}: port must be between 1 and 65535, not {port.number}"
        if not port.protocol.known:
            yield f"{where}: protocol {str(port.protocol)!r} is not tcp, udp or http"
        if port.protocol is PortProtocol.HTTP and port.number != 80:
            yield f"{where}: only port 80 supports http, not {port.number}"


def _location_problems(location: object) -> Iterator[str]:
    if location is not None and not (isinstance(location, str) and re.fullmatch(r"[A-Z]{2}", location)):
        yield f"location: {location!r} is not a two-letter country code"


def settings_problems(
    image: object, environment: object, startup_command: object, credentials: object
) -> Iterator[str]:
    """Check the settings that a container's deploy and update share."""
    if not isinstance(image, str) or not image:
        yield "image: required"
    elif len(image) > 255 or image != image.lower():
        yield f"image: {image[:80]!r} must be lower case and at most 255 characters"
    if not isinstance(environment, Environment):
        yield "environment: must be a dict of names and texts"
    else:
        if len(environment) > 64:
            yield f"environment: {len(environment)} variables; at most 64 are allowed"
        items: Iterable[tuple[object, object]] = environment.items()
        for name, value in items:
            if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
                yield f"environment: {name!r} is not a name of A-Z, 0-9 and _ that starts with a letter"
            if not isinstance(value, str):
                yield f"environment: the value of {name!r} is a {type(value).__name__}, not a text"
    if not (startup_command is None or (isinstance(startup_command, str) and len(startup_command) <= 2048)):
        yield "startup_command: must be a text of at most 2048 characters"
    if isinstance(credentials, RegistryCredentials):
        yield from credentials.problems()
    elif credentials is not None:
        yield "credentials: must be RegistryCredentials"


def ssh_problems(ssh_key: object, environment: object = None) -> Iterator[str]:
    """Check an SSH key. The result never quotes the key, which may be a private key by mistake."""
    if ssh_key is None:
        return
    if (problem := public_key_problem(ssh_key)) is not None:
        yield f"ssh_key: {problem}"
    if isinstance(environment, Environment) and SSH_VARIABLE in environment:
        yield f"environment: {SSH_VARIABLE} is reserved when ssh_key is given"


def ssh_doubts(settings: Any, expose: Iterable[Port], own_images: Collection[str] = ()) -> list[str]:
    """Return reasons for which SSH will probably not work with valid settings, of a spec or an update.

    `ssh_key` only sets the variable `SSH_PUBKEY`, which a program in the container must read. A startup
    command that names the variable is assumed to do so.
    """
    image, command = settings.image, settings.startup_command or ""
    has_key = settings.ssh_key is not None or SSH_VARIABLE in settings.environment
    if not has_key:
        if any(port.number == _SSH_PORT and port.protocol is PortProtocol.TCP for port in expose):
            return [
                f"port 22 of {image} without ssh_key: the service gives the container no key, so SSH works "
                "only if the image brings one"
            ]
        return []
    if _OWN_IMAGES.match(image) or image in own_images or SSH_VARIABLE in command:
        return []
    return [
        f"ssh_key with {image}: the image is not among the service's own, and the key reaches it only as the "
        f"variable {SSH_VARIABLE}, so SSH works only if the image runs sshd and reads that variable"
    ]


def spec_without_secrets(spec: Spec) -> Spec:
    """Return a copy without secrets: variable names without values, no command, key or login."""
    if isinstance(spec, ContainerSpec):
        names = Environment(dict.fromkeys(spec.environment, ""))
        return attrs.evolve(spec, environment=names, startup_command=None, credentials=None, ssh_key=None)
    return attrs.evolve(spec, ssh_key="")
