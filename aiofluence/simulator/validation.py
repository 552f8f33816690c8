"""Validation of request bodies: each becomes an order or a refusal.

A 422 lists every problem, a 400 is one sentence. Three texts are quoted from the service
(`PORT_RANGE`, `NO_BALANCE`, `unsupported_image`). The others are assumed, see docs/fidelity.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NoReturn

import attrs

from .forms import Fields, Problems, RequestRefusedError, read_body
from .instances import ContainerSettings, ExposedPort, Variables

PORT_RANGE = "Port must be between 1 and 65535"
NO_BALANCE = "Insufficient balance to deploy instance"
PLAN_GONE = "Plan is no longer available"
NOT_ACTIVE = "Only ACTIVE instances can be terminated"
NOT_UPDATABLE = "Only ACTIVE instances can be updated"
UPDATING = "Instance update is already in progress"
RESERVED = "Environment variable SSH_PUBKEY is reserved for the ssh key"
MINIMUM_RUNTIME = "Minimum runtime not met"
NO_LOGS = "Logs are not available for an instance that is over"
NOT_FOUND = "Instance not found"

_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
_VARIABLE = r"^[A-Z][A-Z0-9_]*$"
_COUNTRY = r"^[A-Z]{2}$"
_REGISTRIES = ("docker.io", "ghcr.io")
_PROTOCOLS = ("tcp", "udp", "http")


def refuse(text: str, status: int = 400) -> NoReturn:
    """Refuse a request for a business rule.

    Raises:
        RequestRefusedError: always.
    """
    raise RequestRefusedError(status, text)


def unsupported_image(os_image: str, options: tuple[str, ...]) -> NoReturn:
    """Refuse an `os_image` and list the valid ones."""
    refuse(
        f"Provided OS image {os_image} is not supported for the selected offer. "
        f"Available OS images: {', '.join(options)}"
    )


def refuse_minimum(minutes: int | None) -> NoReturn:
    """Refuse to end a machine before its minimum runtime, with the minutes left unless None."""
    left = "" if minutes is None else f". {minutes} minute{'' if minutes == 1 else 's'} remaining"
    refuse(f"{MINIMUM_RUNTIME}{left}")


def creating(container: str, pod: str) -> str:
    """Return Kubernetes' text for the logs of a pod that is still being created."""
    return f'container "{container}" in pod "{pod}" is waiting to start: ContainerCreating'


@attrs.frozen
class ContainerOrder:
    """A container deploy of valid form."""

    plan_id: str
    name: str
    settings: ContainerSettings
    expose: tuple[ExposedPort, ...]
    location: str | None

    @property
    def reserved_variable(self) -> bool:
        """True if SSH_PUBKEY was sent beside an SSH key: accepted, but the deployment fails."""
        return self.settings.ssh_key is not None and any(
            n == "SSH_PUBKEY" for n, _ in self.settings.environment
        )


@attrs.frozen
class MachineOrder:
    """A machine deploy of valid form."""

    plan_id: str
    name: str
    ssh_key: str
    os_image: str


@attrs.frozen
class ContainerChange:
    """A container update. Settings that were not sent are removed."""

    name: str
    settings: ContainerSettings


def container_order(
    body: bytes, unchecked: Collection[str] = (), *, forbids_others: bool = False
) -> ContainerOrder:
    """Read a container deploy.

    Raises:
        RequestRefusedError: 422, for any rule that `unchecked` does not name.
    """
    fields, problems = read_body(body, Problems(unchecked))
    if forbids_others:
        fields.forbid_others({"plan_id", "name", "container_settings", "constraints", "ssh_key"})
    plan_id = fields.uuid("plan_id")
    name = _name(fields)
    inner = fields.object("container_settings")
    expose = tuple(_port(item) for item in inner.objects("expose", at_least=1, at_most=10))
    settings = _settings(fields, inner)
    constraints = fields.optional_object("constraints")
    location = constraints.optional_text("location", pattern=_COUNTRY) if constraints else None
    problems.raise_any()
    return ContainerOrder(plan_id, name, settings, expose, location)


def container_change(body: bytes) -> ContainerChange:
    """Read a container update. `expose` is ignored: the ports of the deployment stay in effect.

    Raises:
        RequestRefusedError: 422, also for SSH_PUBKEY beside an SSH key, which a deploy would accept.
    """
    fields, problems = read_body(body)
    name = _name(fields)
    inner = fields.object("container_settings")
    settings = _settings(fields, inner)
    if settings.ssh_key is not None:
        for index, (variable, _) in enumerate(settings.environment):
            if variable == "SSH_PUBKEY":
                problems.value_error(
                    (*inner.loc, "environment", index, "name"),
                    RESERVED,
                    variable,
                )
    problems.raise_any()
    return ContainerChange(name, settings)


def machine_order(body: bytes, unchecked: Collection[str] = ()) -> MachineOrder:
    """Read a deploy of a VM or bare-metal machine.

    Raises:
        RequestRefusedError: 422.
    """
    fields, problems = read_body(body, Problems(unchecked, "machine "))
    order = MachineOrder(
        plan_id=fields.uuid("plan_id"),
        name=_name(fields),
        ssh_key=fields.text("ssh_key", at_least=1),
        os_image=fields.text("os_image"),
    )
    problems.raise_any()
    return order


def new_name(body: bytes) -> str:
    """Read the new name of a machine.

    Raises:
        RequestRefusedError: 422.
    """
    fields, problems = read_body(body)
    name = _name(fields)
    problems.raise_any()
    return name


def last_lines(query: Mapping[str, str], *, is_checked: bool = True) -> int | None:
    """Read `last=N`. An invalid N is refused, or counts as missing unless `is_checked`.

    Raises:
        RequestRefusedError: 422.
    """
    text = query.get("last")
    if text is None:
        return None
    problems = Problems()
    loc = ("query", "last")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        msg = "Input should be a valid integer, unable to parse string as an integer"
        problems.add("int_parsing", loc, msg, text)
    elif int(text) < 1:
        msg = "Input should be greater than or equal to 1"
        problems.add("greater_than_equal", loc, msg, text, {"ge": 1})
    if problems.found and not is_checked:
        return None
    problems.raise_any()
    return int(text)


def _name(fields: Fields) -> str:
    return fields.text("name", at_least=1, at_most=25, pattern=_NAME)


def _settings(fields: Fields, inner: Fields) -> ContainerSettings:
    settings = ContainerSettings(
        image=inner.text("image", at_least=1, at_most=255, check=_image),
        environment=_environment(inner),
        startup_command=inner.optional_text("startup_command", at_most=2048),
        ssh_key=fields.optional_text("ssh_key"),
    )
    if credentials := inner.optional_object("credentials"):
        credentials.text("host", check=_registry)
        credentials.text("username")
        credentials.text("password")
    return settings


def _environment(inner: Fields) -> Variables:
    return tuple(
        (item.text("name", pattern=_VARIABLE), item.text("value"))
        for item in inner.objects("environment", at_least=0, at_most=64)
    )


def _image(value: str) -> str | None:
    return None if value == value.lower() else "Image must be lower case"


def _registry(value: str) -> str | None:
    return None if value in _REGISTRIES else f"Only {' and '.join(_REGISTRIES)} are supported"


def _port(fields: Fields) -> ExposedPort:
    port = fields.text("port", check=_port_number)
    protocol = fields.one_of("protocol", _PROTOCOLS, "tcp")
    if protocol == "http" and port != "80":
        fields.problems.value_error(
            fields.loc, 'Only port 80 supports the "http" protocol', dict(fields.values)
        )
    return ExposedPort(port, protocol)


def _port_number(value: str) -> str | None:
    fits = re.fullmatch(r"[0-9]{1,5}", value) and 1 <= int(value) <= 65535
    return None if fits else PORT_RANGE
