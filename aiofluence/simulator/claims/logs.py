"""Claims about logs, events and real processes.

Tables only. `claim` defines the columns.
"""

from __future__ import annotations

from typing import Final

from .claim import Claim, assumed, documented, likely, unknown

_KUBERNETES: Final = "Kubernetes, on which Akash runs containers"
_AKASH: Final = "Akash's provider"

LOGS: Final[tuple[Claim, ...]] = (
    documented(
        "log-lines",
        "`last=N` returns the newest lines; lines begin with the pod's name; an update makes a new pod",
        "page: Container debugging; guides",
        probe="paid:container",
    ),
    documented(
        "log-form",
        "a line is `[pod] text`; the console shows `[pod]: text`",
        "guides; console",
        "ClusterOptions.console_format",
        probe="free:output",
    ),
    likely(
        "last-per-pod",
        "`last=N` applies to each pod",
        _AKASH + ", 85 %",
        "ClusterOptions.last_applies",
        probe="free:output",
    ),
    likely(
        "racing-pods",
        "lines of several pods are in random order; within a pod the order never changes",
        _AKASH + ", 85 %",
        "ClusterOptions.pod_order",
        probe="free:output",
    ),
    likely(
        "long-line",
        "a line over 65,536 bytes silently ends its pod's part of the answer",
        _AKASH + ", 85 %",
        "ClusterOptions.line_limit",
        probe="paid:container",
    ),
    likely(
        "logs-gone",
        "logs of an ended instance are empty; or an error",
        _KUBERNETES + ", 70 %",
        "Profile.logs_after_end",
        probe="free:output",
    ),
    likely(
        "logs-creating",
        "while a pod is being created, logs are an error: in the simulator a 400 with Kubernetes' text",
        _KUBERNETES + ", 60 %",
        "Profile.logs_while_creating",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "training",
        "a container that runs on prints a boot and a training run, about one line per 2 s; a command of `echo`, "
        "`seq`, `printf` and `sleep` prints the output of a shell",
        "ClusterOptions.log_interval",
        "Simulator.print",
        why_not="about the simulator's own output",
    ),
    assumed(
        "last-max",
        "the window of an answer has no limit",
        "ClusterOptions.last_max",
        probe="free:output",
    ),
    assumed(
        "kept-lines",
        "all lines of the present pod are kept",
        "ClusterOptions.ring",
        "ClusterOptions.rotate_every",
        "Simulator.rotate",
        source="Kubernetes rotates by size, far above that of these logs",
        probe="paid:container",
    ),
    assumed(
        "old-pod",
        "the lines of an old pod disappear with the pod",
        "ClusterOptions.pod_linger",
        probe="paid:container",
    ),
    assumed(
        "empty-answers",
        "no answer is empty or stale at random",
        "ClusterOptions.empty_rate",
        "ClusterOptions.stale_rate",
        "ClusterOptions.stale_by",
        probe="free:output",
    ),
    assumed(
        "unfinished-line",
        "an unfinished line is shown as it is; a newline ends a line",
        probe="paid:container",
    ),
    assumed(
        "between-runs",
        "until a container is started again, its log is that of the last run",
        source=_KUBERNETES,
        probe="paid:container",
    ),
    unknown("cut-lines", "lines cut at a rotation; stdout and stderr of one moment in another order"),
)

EVENTS: Final[tuple[Claim, ...]] = (
    documented(
        "event-form",
        "an event is `[object]: [type] [reason] [Kind] message`; the guide's examples lack the kind",
        "guides; console",
        "ClusterOptions.event_kind",
        probe="free:output",
    ),
    likely(
        "event-order",
        "events are ordered by the name of their object, then by time",
        _KUBERNETES + ", 90 %",
        probe="free:output",
    ),
    likely(
        "folded",
        "identical events are folded into one",
        _KUBERNETES + ", 90 %",
        "ClusterOptions.fold_events",
        probe="free:output",
    ),
    likely(
        "forgotten",
        "events are dropped after an hour; a repeated event an hour after its last occurrence",
        _KUBERNETES + ", 90 %",
        "ClusterOptions.event_ttl",
        probe="free:output",
    ),
    likely(
        "no-exit-codes",
        "exit codes and restart counts are not shown",
        _KUBERNETES + ", 90 %",
        probe="free:output",
    ),
    assumed(
        "failed-events",
        "a failed container has no node (`FailedScheduling`); without `restarts`, its image cannot be "
        "pulled or its command crashes",
        "Profile.restarts",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "before-scheduling",
        "logs and events are empty until the container is scheduled",
        "AnswerOptions.early_logs",
        probe="refunded:failing-deploy",
    ),
    assumed(
        "events-stay",
        "events stay after the end until they expire",
        "AnswerOptions.late_events",
        source="Kubernetes would drop them with the namespace",
        probe="refunded:failing-deploy",
    ),
)

PROCESSES: Final[tuple[Claim, ...]] = (
    assumed(
        "split",
        "a startup command is split as a shell would split it, and run without a shell",
        source="ours, with `--exec`",
        why_not="about processes on your machine, with `--exec`",
    ),
    likely(
        "process-exits",
        "a process that exits is started again, regardless of its code; without `restarts` the instance "
        "has ENDED, with an event `Exited`",
        _KUBERNETES + ", 85 %",
        "Profile.restarts",
        probe="paid:container",
    ),
    assumed(
        "cannot-run",
        "a command that cannot be run: a line in the log, and code 127",
        source="ours, with `--exec`",
        why_not="about processes on your machine, with `--exec`",
    ),
    assumed(
        "max-children",
        "a container beyond `--max-children`: FAILED with `FailedScheduling`, refunded",
        source="ours, with `--exec`",
        why_not="about processes on your machine, with `--exec`",
    ),
    assumed(
        "own-address",
        "a container does not learn its address; the variable `PORT_<port>` exists only in the simulator",
        source="ours, with `--exec`",
        why_not="about processes on your machine, with `--exec`",
    ),
    assumed(
        "signals",
        "a termination sends SIGTERM, then SIGKILL; the instance has already ENDED",
        source=_KUBERNETES,
        why_not="after its end a container shows no log, and so no signal",
    ),
)
