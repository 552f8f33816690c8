"""Profiles: one field for each habit of the service that its documents leave open, and two presets.

`LIKELY` follows public guides and the systems behind the service. `KIND` harms a client least.
`claims` states the source of each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

import attrs

from .answer_options import AnswerOptions
from .events import ClusterOptions
from .timing import Provisioning

ProfileName: TypeAlias = Literal["likely", "kind"]

_at_least_zero = attrs.validators.ge(0.0)
_positive = attrs.validators.optional(attrs.validators.gt(0))


def _options(*values: str | int) -> Any:
    return attrs.validators.in_(values)


@attrs.frozen(kw_only=True)
class Profile:
    """Habits of the simulated service. The defaults of the fields are the values of `KIND`.

    Attributes:
        cluster: logs and events.
        answers: statuses, texts, rules and fields of answers. Equal in both presets.
        provisioning: durations, and the share of provisionings that fail.
        restarts: a command that exits is started again, and rent continues. False ends the instance.
        images_exit: images and commands that are known to end do exit, see `programs`. False makes all stay.
        lease_checks: failed checks, each 4 to 19 seconds after the last, until a container's lease is closed
            and the instance ends. None means that no lease is closed.
        update_downtime: an update stops the old pod first. False swaps the pods when the new one is ready.
        logs_while_creating: answer to a request for logs while a pod is being created.
        logs_after_end: answer to a request for logs after the end of the instance.
        reserved_variable: effect of a deploy that has `SSH_PUBKEY` beside a key.
        minimum_runtime: seconds after ACTIVE during which DELETE of a machine is refused.
        minimum_runtime_text: text of that refusal, without or with the minutes left.
        machine_address: moment from which a machine's IP is its `domain`. "early" means half the provisioning
            time, in the list.
        login_by: source of the user in a machine's `ssh_connection`.
        list_order: the instance with which a list begins.
        failed_machine_detail: status of a failed machine in its detail. The list has FAILED.
        detail_domain: details have `domain` at the top level too, as the list does.
        rounded_amounts: amounts in answers are rounded to cents.
        hourly_usage_after_end: amount in `hourly_usage` after the end of the instance.
        billing_period: status in which `next_billing_period` is not null, and its form. "live" means
            INITIALIZED and ACTIVE, with microseconds. "active" means ACTIVE, without microseconds.
        top_up_delay: seconds from a clock hour until the reserve is full again.
        published_catalog: plans, places, providers and systems as the guides show them. False means a
            catalogue with country codes everywhere.
        capacity: instances of one plan that may exist at once. None means no limit.
        unauthorised_status: status for a missing or wrong key.
    """

    cluster: ClusterOptions = attrs.field(factory=ClusterOptions)
    provisioning: Provisioning = attrs.field(factory=Provisioning)
    answers: AnswerOptions = attrs.field(factory=AnswerOptions)
    # Containers
    restarts: bool = False
    images_exit: bool = False
    lease_checks: int | None = attrs.field(default=None, validator=_positive)
    update_downtime: bool = False
    logs_while_creating: Literal["empty", "error"] = attrs.field(
        default="empty", validator=_options("empty", "error")
    )
    logs_after_end: Literal["kept", "empty", "error"] = attrs.field(
        default="kept", validator=_options("kept", "empty", "error")
    )
    reserved_variable: Literal["fails", "refused"] = attrs.field(
        default="fails", validator=_options("fails", "refused")
    )
    # Machines
    minimum_runtime: float = attrs.field(default=0.0, validator=_at_least_zero)
    minimum_runtime_text: Literal["plain", "minutes"] = attrs.field(
        default="minutes", validator=_options("plain", "minutes")
    )
    machine_address: Literal["never", "active", "early"] = attrs.field(
        default="never", validator=_options("never", "active", "early")
    )
    login_by: Literal["os", "provider"] = attrs.field(default="os", validator=_options("os", "provider"))
    # Answers
    list_order: Literal["oldest", "newest"] = attrs.field(
        default="oldest", validator=_options("oldest", "newest")
    )
    failed_machine_detail: Literal["FAILED", "ENDED"] = attrs.field(
        default="FAILED", validator=_options("FAILED", "ENDED")
    )
    detail_domain: bool = True
    rounded_amounts: bool = False
    hourly_usage_after_end: Literal["price", "zero"] = attrs.field(
        default="price", validator=_options("price", "zero")
    )
    billing_period: Literal["live", "active"] = attrs.field(
        default="live", validator=_options("live", "active")
    )
    # Account and catalogue
    top_up_delay: float = attrs.field(default=0.0, validator=[_at_least_zero, attrs.validators.lt(3600.0)])
    published_catalog: bool = False
    capacity: int | None = attrs.field(default=None, validator=_positive)
    unauthorised_status: Literal[401, 403] = attrs.field(default=403, validator=_options(401, 403))

    @classmethod
    def of(cls, profile: Profile | ProfileName) -> Profile:
        """Return a preset by its name, or the profile itself.

        Raises:
            ValueError: no preset has that name.
        """
        if isinstance(profile, Profile):
            return profile
        try:
            return PRESETS[profile]
        except (KeyError, TypeError):
            raise ValueError(f"profile must be {' or '.join(PRESETS)}, not {profile!r}") from None

    def replace(self, **changes: Any) -> Profile:
        """Return a copy with other values. `answers`, `cluster` and `provisioning` accept mappings.

        Raises:
            ValueError: a field does not exist, or its value is not allowed.
        """
        changed: Profile = _replaced(self, changes)
        return changed


def _replaced(options: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    hints = get_type_hints(type(options))
    values = {}
    for name, value in changes.items():
        if name not in hints:
            raise ValueError(f"{prefix}{name}: no such field; there are {', '.join(hints)}")
        old = getattr(options, name)
        if isinstance(value, Mapping) and attrs.has(type(old)):
            values[name] = _replaced(old, value, f"{prefix}{name}.")
        elif _fits(value, hints[name]):
            values[name] = value
        else:
            raise ValueError(f"{prefix}{name}: {value!r} has another type than {old!r}")
    try:
        return attrs.evolve(options, **values)
    except ValueError as error:
        # attrs validators put the attribute and the class into the exception's arguments. Show only the text.
        place = f"{prefix[:-1]}: " if prefix else ""
        raise ValueError(f"{place}{error.args[0]}") from None


def _fits(value: object, kind: Any) -> bool:
    """Return True if the JSON value has the type of the field. Validators check the range."""
    options = get_args(kind)
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    if get_origin(kind) is Literal:
        return any(value == option and type(value) is type(option) for option in options)
    if options:
        return any(_fits(value, option) for option in options)
    return type(value) is kind or (kind is float and type(value) is int)


KIND: Final = Profile()
"""Preset that harms a client least wherever the documents are silent."""

LIKELY: Final = Profile(
    cluster=ClusterOptions(pod_order="mixed", line_limit=65_536, fold_events=True),
    provisioning=Provisioning(median=72.0, machine_median=119.0, failed_machine_median=33.0),
    restarts=True,
    images_exit=True,
    lease_checks=41,
    update_downtime=True,
    logs_while_creating="error",
    logs_after_end="empty",
    minimum_runtime=1200.0,
    machine_address="early",
    login_by="provider",
    list_order="newest",
    detail_domain=False,
    rounded_amounts=True,
    hourly_usage_after_end="zero",
    billing_period="active",
    top_up_delay=600.0,
    published_catalog=True,
    capacity=100,
)
"""Preset of the probable service: containers on Akash, machines on Spheron."""

PRESETS: Final[Mapping[str, Profile]] = {"likely": LIKELY, "kind": KIND}

DEFAULT_PROFILE: Final[ProfileName] = "likely"
"""Preset of a simulator that is created without a profile."""
