"""Claims about logs and events, and about real processes.

Tables only; `claim` defines the columns.
"""

from __future__ import annotations

from typing import Final

from .claim import Claim, assumed, documented, likely, unknown

_KUBERNETES: Final = "Kubernetes, on which Akash runs containers"
_AKASH: Final = "Akash's provider"

LOGS: Final[tuple[Claim, ...]] = (
    documented(
        "log-lines",
        "`last=N` gives the newest lines; lines carry the pod's name; a new pod after an update",
        "page: Container debugging; guides",
    ),
    documented(
        "log-form",
        "a line is `[pod] text`; the console shows `[pod]: text`",
        "guides; console",
        "ClusterOptions.console_format",
    ),
    likely("last-per-pod", "`last=N` counts for each pod", _AKASH + ", 85 %", "ClusterOptions.last_applies"),
    likely(
        "racing-pods",
        "lines of several pods race each other; within a pod the order never changes",
        _AKASH + ", 85 %",
        "ClusterOptions.pod_order",
    ),
    likely(
        "long-line",
        "a line over 65,536 bytes ends its pod's answer, and nothing says so",
        _AKASH + ", 85 %",
        "ClusterOptions.line_limit",
    ),
    likely(
        "logs-gone",
        "logs of an instance that is over are empty; or an error",
        _KUBERNETES + ", 70 %",
        "Profile.logs_after_end",
    ),
    likely(
        "logs-creating",
        "while a pod is being created, logs are an error: here a 400 with Kubernetes' text",
        _KUBERNETES + ", 60 %",
        "Profile.logs_while_creating",
    ),
    assumed(
        "training",
        "a container that stays prints a boot and a training run, about a line in 2 s",
        "ClusterOptions.log_interval",
        "Simulator.print",
    ),
    assumed("last-max", "an answer has no greatest window", "ClusterOptions.last_max"),
    assumed(
        "kept-lines",
        "all lines of the present pod are kept",
        "ClusterOptions.ring",
        "ClusterOptions.rotate_every",
        "Simulator.rotate",
        source="Kubernetes rotates by size, here far away",
    ),
    assumed("old-pod", "an old pod's lines are gone with it", "ClusterOptions.pod_linger"),
    assumed(
        "empty-answers",
        "answers are never empty or stale by chance",
        "ClusterOptions.empty_rate",
        "ClusterOptions.stale_rate",
        "ClusterOptions.stale_by",
    ),
    assumed("unfinished-line", "a line that has not ended is shown as far as it came; a newline ends a line"),
    assumed(
        "between-runs",
        "until a container is started again, the log is that of the run that is over",
        source=_KUBERNETES,
    ),
    unknown(
        "cut-lines", "lines cut where a file was rotated; stdout and stderr of one moment in another order"
    ),
)

EVENTS: Final[tuple[Claim, ...]] = (
    documented(
        "event-form",
        "an event is `[object]: [type] [reason] [Kind] message`; the guide's examples lack the kind",
        "guides; console",
        "ClusterOptions.event_kind",
    ),
    likely(
        "event-order",
        "events are ordered by the name of their object; for one object by time",
        _KUBERNETES + ", 90 %",
    ),
    likely("folded", "repeats are folded into one", _KUBERNETES + ", 90 %", "ClusterOptions.fold_events"),
    likely(
        "forgotten",
        "events are forgotten after an hour, a repeated one an hour after its last",
        _KUBERNETES + ", 90 %",
        "ClusterOptions.event_ttl",
    ),
    likely("no-exit-codes", "exit codes and restart counts are not shown", _KUBERNETES + ", 90 %"),
    assumed(
        "failed-events",
        "a failed container has no node (`FailedScheduling`); without restarts an image that cannot "
        "be pulled, or a crash",
        "Profile.restarts",
    ),
    assumed("before-scheduling", "before the container is scheduled both lists are empty"),
    assumed(
        "events-stay",
        "events stay after the end until they are forgotten",
        source="Kubernetes would drop them with the namespace",
    ),
)

PROCESSES: Final[tuple[Claim, ...]] = (
    assumed(
        "split", "a startup command is split as a shell would, run without one", source="ours, with `--exec`"
    ),
    likely(
        "process-exits",
        "a process that exits is started again, with whatever code; without restarts the instance has "
        "ENDED, with an event `Exited`",
        _KUBERNETES + ", 85 %",
        "Profile.restarts",
    ),
    assumed(
        "cannot-run",
        "a command that cannot be run: a line in the log, and code 127",
        source="ours, with `--exec`",
    ),
    assumed(
        "max-children",
        "more containers than the machine is to run: FAILED with `FailedScheduling`, refunded",
        source="ours, with `--exec`",
    ),
    assumed(
        "own-address",
        "a container knows nothing of its address: `PORT_<port>` is the simulator's own",
        source="ours, with `--exec`",
    ),
    assumed(
        "signals", "at termination SIGTERM, then SIGKILL; the instance has ENDED before", source=_KUBERNETES
    ),
)
