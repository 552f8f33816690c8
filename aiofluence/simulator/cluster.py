"""What Kubernetes would print about one container: its log lines and its events.

Text over simulated time, drawn from a seed; it decides nothing about an instance. `pod_lines` and
`event_lines` are the two places where an answer takes its form: a new habit of the log store
(rings, rotation, clamped windows) belongs there or in `PodLog`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import attrs

# Kubernetes leaves out vowels and look-alikes.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def _positive(owner: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value}")


@attrs.frozen
class ClusterOptions:
    """How the cluster writes, and how talkative its containers are.

    Attributes:
        log_interval: mean seconds between generated log lines; None generates none. Read when a
            pod starts.
        console_format: logs as the console shows them, `[pod]: text`, instead of `[pod] text`.
        event_kind: events with the `[<Kind>]` that the console shows and the guide's examples lack.
        event_ttl: seconds after which an event is forgotten; Kubernetes keeps them for an hour.
    """

    log_interval: float | None = attrs.field(default=2.0, validator=_positive)
    console_format: bool = False
    event_kind: bool = True
    event_ttl: float = attrs.field(default=3600.0, validator=_positive)


@attrs.frozen
class ClusterEvent:
    """One event about one Kubernetes object; `at` is in simulated seconds."""

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


class PodLog:
    """Everything one pod has printed. Generated lines appear only between `start` and `stop`."""

    def __init__(self, name: PodName, seed: int, interval: float | None) -> None:
        self.name = name
        self.lines: list[str] = []
        self._rng = Random(seed)  # its own: the text must not depend on what else is drawn, and when
        self._interval = interval
        self._next: float | None = None
        self._script = _training_run(self._rng)

    def start(self, at: float) -> None:
        """Begin to print."""
        if self._interval is not None:
            self._next = at

    def stop(self, at: float) -> None:
        """Print what was due before `at`, and nothing any more."""
        self.advance(at)
        self._next = None

    def print(self, text: str, at: float) -> None:
        """Append a line by hand, behind everything that was due."""
        self.advance(at)
        self.lines.append(text)

    def advance(self, now: float) -> None:
        """Print the generated lines that are due by `now`."""
        while self._interval is not None and self._next is not None and self._next <= now:
            self.lines.append(next(self._script))
            self._next += self._interval * self._rng.uniform(0.5, 1.5)


def pod_lines(logs: Sequence[PodLog], now: float, last: int | None, options: ClusterOptions) -> list[str]:
    """The log answer: oldest first, the last `last` lines or everything."""
    mark = ": " if options.console_format else " "
    lines: list[str] = []
    for log in logs:
        log.advance(now)
        lines.extend(f"[{log.name.pod}]{mark}{text}" for text in log.lines)
    return lines if last is None else lines[-last:]


def event_lines(
    events: Sequence[ClusterEvent], now: float, last: int | None, options: ClusterOptions
) -> list[str]:
    """The events answer: sorted by object name, within one object by time; expired ones left out."""
    seen = [event for event in events if now - options.event_ttl < event.at <= now]
    seen.sort(key=lambda event: (event.object, event.at))
    lines = [
        f"[{event.object}]: [{event.type}] [{event.reason}] "
        f"{f'[{event.kind}] ' if options.event_kind else ''}{event.message}"
        for event in seen
    ]
    return lines if last is None else lines[-last:]


def _about(at: float, obj: str, reason: str, kind: str, message: str, *, warn: bool = False) -> ClusterEvent:
    return ClusterEvent(at, obj, "Warning" if warn else "Normal", reason, kind, message)


def scheduled(name: PodName, image: str, at: float) -> list[ClusterEvent]:
    """A pod finds a node and begins to pull its image, all within a second or two."""
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
    """The image has arrived and the container runs."""
    container = name.deployment
    return [
        _about(pulled_at, name.pod, "Pulled", "Pod", f'Successfully pulled image "{image}"'),
        _about(started_at, name.pod, "Created", "Pod", f"Created container: {container}"),
        _about(started_at, name.pod, "Started", "Pod", f"Started container {container}"),
    ]


def pull_failed(name: PodName, image: str, begin: float, end: float) -> list[ClusterEvent]:
    """The image cannot be pulled, however often the kubelet tries."""
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
    """The container starts and dies at once, again and again."""
    middle = (begin + end) / 2
    return [
        *running(name, image, middle, middle),
        _about(
            end,
            name.pod,
            "BackOff",
            "Pod",
            f"Back-off restarting failed container {name.deployment} in pod {name.pod}",
            warn=True,
        ),
    ]


def not_configurable(name: PodName, reason: str, end: float) -> list[ClusterEvent]:
    """The container cannot even be made from its configuration."""
    return [_about(end, name.pod, "Failed", "Pod", f"Error: {reason}", warn=True)]


def killed(name: PodName, at: float, *, scaled_down: bool) -> list[ClusterEvent]:
    """A pod goes: with its whole deployment, or replaced after an update."""
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


CRASH_LINES = (
    "Loading the CUDA runtime",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    "process exited with code 1",
)


def _training_run(rng: Random) -> Iterator[str]:
    """A container that boots and then trains for ever; many lines are alike, as in real logs."""
    yield "Starting entrypoint"
    yield "NVIDIA driver 570.124.06, CUDA 12.8"
    yield "Downloading the dataset"
    for percent in range(20, 101, 20):
        yield f"Loading checkpoint shards: {percent}%"
    yield "Training begins"
    step = 0
    loss = rng.uniform(8.0, 11.0)
    while True:
        step += 10
        loss = max(1.2, loss * rng.uniform(0.985, 1.002))
        yield f"step {step} loss {loss:.4f} lr 3.0e-04 {rng.randint(1700, 1950)} tokens/s"
        if step % 500 == 0:
            yield "Saving checkpoint"
            yield "Checkpoint saved"
