"""Kubernetes around a container: its options, the names of pods, and the events.

`event_lines` is the only place that formats the answer to a request for events. `logs` formats a container's
lines. This module makes text over simulated time and decides nothing about instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs

# Kubernetes leaves out vowels and similar characters.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


_positive: Any = attrs.validators.optional(attrs.validators.gt(0))
_at_least_zero: Any = attrs.validators.ge(0)
_share: Any = [attrs.validators.ge(0), attrs.validators.le(1)]


@attrs.frozen
class ClusterOptions:
    """Options of the cluster's logs and events, and of the output of its containers.

    Behaviour that Kubernetes does not promise is off by default. docs/fidelity.md lists the likely behaviour.

    Attributes:
        log_interval: mean seconds between generated log lines, read at the start of a pod. None generates
            none.
        console_format: logs in the console's form `[pod]: text`, instead of `[pod] text`.
        last_applies: target of `last=N`: each pod, the whole answer, or nothing.
        last_max: maximum lines of an answer, per pod or in total as `last_applies` says. The limit applies
            without `last`, too. None means no limit.
        pod_order: order of the lines of several pods. "pod": in blocks, the oldest pod first. "time": as
            printed. "mixed": at random in each answer. Within a pod the order never changes.
        pod_linger: seconds during which a pod that an update replaced still prints and is shown.
        ring: lines kept of a pod. Each new line drops the oldest. None keeps all.
        rotate_every: lines of a pod after which its log begins an empty file. Only the newest file is shown.
            None never rotates.
        line_limit: maximum bytes of a line. A longer line silently ends its pod's part of the answer.
            Kubernetes' usual reader has 65,536. None means no limit.
        empty_rate: share of log answers that are empty in spite of printed lines.
        stale_rate: share of log answers that show the log as of `stale_by` seconds before.
        stale_by: age of a stale answer, in seconds.
        event_kind: events with the `[<Kind>]` of the console, which the guide's examples lack.
        event_ttl: seconds until an event is dropped. Kubernetes keeps events for an hour.
        fold_events: list identical events once, at the place of the first. They are dropped `event_ttl`
            seconds after the last.
    """

    log_interval: float | None = attrs.field(default=2.0, validator=_positive)
    console_format: bool = False
    last_applies: Literal["pod", "answer", "nothing"] = "pod"
    last_max: int | None = attrs.field(default=None, validator=_positive)
    pod_order: Literal["pod", "time", "mixed"] = "pod"
    pod_linger: float = attrs.field(default=0.0, validator=_at_least_zero)
    ring: int | None = attrs.field(default=None, validator=_positive)
    rotate_every: int | None = attrs.field(default=None, validator=_positive)
    line_limit: int | None = attrs.field(default=None, validator=_positive)
    empty_rate: float = attrs.field(default=0.0, validator=_share)
    stale_rate: float = attrs.field(default=0.0, validator=_share)
    stale_by: float = attrs.field(default=30.0, validator=_at_least_zero)
    event_kind: bool = True
    event_ttl: float = attrs.field(default=3600.0, validator=attrs.validators.gt(0))
    fold_events: bool = False

    def __attrs_post_init__(self) -> None:
        check_literals(self)


def check_literals(options: object) -> None:
    """Refuse an attrs object with a value that the `Literal` type of its field does not have.

    Raises:
        ValueError: names the first such field.
    """
    for name, kind in get_type_hints(type(options)).items():
        if get_origin(kind) is Literal and getattr(options, name) not in get_args(kind):
            raise ValueError(f"{name!r} must be one of {get_args(kind)}, not {getattr(options, name)!r}")


@attrs.frozen
class ClusterEvent:
    """An event about one Kubernetes object. `at` is in simulated seconds."""

    at: float
    object: str
    type: str
    reason: str
    kind: str
    message: str


@attrs.frozen
class PodName:
    """The names of a pod and its owners: `service-1`, `service-1-b4fcd99f7`, `service-1-b4fcd99f7-f5xr5`."""

    deployment: str
    replica_set: str
    pod: str

    @classmethod
    def draw(cls, rng: Random, deployment: str = "service-1") -> PodName:
        replica_set = f"{deployment}-{''.join(rng.choices(_ALPHABET, k=9))}"
        return cls(deployment, replica_set, f"{replica_set}-{''.join(rng.choices(_ALPHABET, k=5))}")


def event_lines(
    events: Sequence[ClusterEvent], now: float, last: int | None, options: ClusterOptions
) -> list[str]:
    """Return the events answer, sorted by object name, then by time, without expired events."""
    happened = [event for event in events if event.at <= now]
    if options.fold_events:
        seen = _folded(happened, now, options.event_ttl)
    else:
        seen = [event for event in happened if now - options.event_ttl < event.at]
    seen.sort(key=lambda event: (event.object, event.at))
    lines = [
        f"[{event.object}]: [{event.type}] [{event.reason}] "
        f"{f'[{event.kind}] ' if options.event_kind else ''}{event.message}"
        for event in seen
    ]
    return lines if last is None else lines[-last:]


def _folded(happened: list[ClusterEvent], now: float, ttl: float) -> list[ClusterEvent]:
    """Merge identical events at the time of the first. A repeat only prolongs the event's life."""
    first: dict[ClusterEvent, ClusterEvent] = {}
    latest: dict[ClusterEvent, float] = {}
    for event in sorted(happened, key=lambda event: event.at):
        text = attrs.evolve(event, at=0.0)
        if text not in first or event.at - latest[text] >= ttl:
            first[text] = event
        latest[text] = event.at
    return [event for text, event in first.items() if now - ttl < latest[text]]


def _about(at: float, obj: str, reason: str, kind: str, message: str, *, warn: bool = False) -> ClusterEvent:
    return ClusterEvent(at, obj, "Warning" if warn else "Normal", reason, kind, message)


def scheduled(name: PodName, image: str, at: float) -> list[ClusterEvent]:
    """Return the events of a pod that gets a node and begins to pull its image, within two seconds."""
    replica_set, pod = name.replica_set, name.pod
    return [
        _about(
            at,
            name.deployment,
            "ScalingReplicaSet",
            "Deployment",
            f"Scaled up replica set {replica_set} from 0 to 1",
        ),
        _about(at, replica_set, "SuccessfulCreate", "ReplicaSet", f"Created pod: {pod}"),
        _about(at + 0.5, pod, "Scheduled", "Pod", f"Successfully assigned {pod} to gpu-node-1"),
        _about(at + 1.0, pod, "Pulling", "Pod", f'Pulling image "{image}"'),
    ]


def running(name: PodName, image: str, pulled_at: float, started_at: float) -> list[ClusterEvent]:
    """Return the events of a pulled image and a started container."""
    container = name.deployment
    return [
        _about(pulled_at, name.pod, "Pulled", "Pod", f'Successfully pulled image "{image}"'),
        _about(started_at, name.pod, "Created", "Pod", f"Created container: {container}"),
        _about(started_at, name.pod, "Started", "Pod", f"Started container {container}"),
    ]


def restarted(name: PodName, image: str, at: float) -> list[ClusterEvent]:
    """Return the events of a restart in the same pod: those of the first start, except for the pull."""
    container = name.deployment
    return [
        _about(at, name.pod, "Pulled", "Pod", f'Container image "{image}" already present on machine'),
        _about(at, name.pod, "Created", "Pod", f"Created container: {container}"),
        _about(at, name.pod, "Started", "Pod", f"Started container {container}"),
    ]


def pull_failed(name: PodName, image: str, begin: float, end: float) -> list[ClusterEvent]:
    """Return the events of an image that the kubelet repeatedly cannot pull."""
    middle = (begin + end) / 2
    return [
        _about(
            middle,
            name.pod,
            "Failed",
            "Pod",
            f'Failed to pull image "{image}": rpc error: code = NotFound desc = {image}: not found',
            warn=True,
        ),
        _about(middle, name.pod, "Failed", "Pod", "Error: ErrImagePull", warn=True),
        _about(end, name.pod, "BackOff", "Pod", f'Back-off pulling image "{image}"'),
        _about(end, name.pod, "Failed", "Pod", "Error: ImagePullBackOff", warn=True),
    ]


def crashed(name: PodName, image: str, begin: float, end: float) -> list[ClusterEvent]:
    """Return the events of a container that repeatedly crashes at its start."""
    middle = (begin + end) / 2
    return [*running(name, image, middle, middle), backed_off(name, end)]


def backed_off(name: PodName, at: float) -> ClusterEvent:
    """Return the event of a kubelet that waits before it starts an exited container again."""
    message = f"Back-off restarting failed container {name.deployment} in pod {name.pod}"
    return _about(at, name.pod, "BackOff", "Pod", message, warn=True)


def pull_refused(name: PodName, image: str, at: float) -> list[ClusterEvent]:
    """Return the events of an image that the registry lacks, with retries for ten minutes and longer."""
    tries = (at + wait for wait in (0.0, 15.0, 45.0, 100.0, 200.0, 400.0, 700.0))
    return [event for begin in tries for event in pull_failed(name, image, begin, begin)]


def not_configurable(name: PodName, reason: str, end: float) -> list[ClusterEvent]:
    """Return the events of a container that cannot be created from its configuration."""
    return [_about(end, name.pod, "Failed", "Pod", f"Error: {reason}", warn=True)]


def not_scheduled(name: PodName, reason: str, at: float) -> ClusterEvent:
    """Return the event of a pod for which no node has capacity."""
    return _about(at, name.pod, "FailedScheduling", "Pod", reason, warn=True)


def exited(name: PodName, code: int, at: float) -> ClusterEvent:
    """Return the event of a container's process that ended by itself."""
    message = f"Container {name.deployment} exited with code {code}"
    return _about(at, name.pod, "Exited", "Pod", message, warn=code != 0)


def killed(name: PodName, at: float, *, scaled_down: bool) -> list[ClusterEvent]:
    """Return the events of a removed pod, whose deployment was scaled down or updated."""
    events = [_about(at, name.pod, "Killing", "Pod", f"Stopping container {name.deployment}")]
    if scaled_down:
        events += [
            _about(
                at,
                name.deployment,
                "ScalingReplicaSet",
                "Deployment",
                f"Scaled down replica set {name.replica_set} from 1 to 0",
            ),
            _about(at, name.replica_set, "SuccessfulDelete", "ReplicaSet", f"Deleted pod: {name.pod}"),
        ]
    return events
