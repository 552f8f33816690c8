"""What came of a launch of many: an Outcome for each spec, the Report of all, and the error of a failed one.

Plain values; who is launched when, and what is called off, is `batch`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import attrs

from ..errors import FluenceError, LifecycleError
from ..models.instances import Instance, InstanceRef, without_secrets
from ..models.specs import Spec, spec_without_secrets

log: Final = logging.getLogger("aiofluence")

_TYPICAL: Final = 150.0
"""Seconds that provisioning takes, as long as a launch has seen none."""


class LaunchState(StrEnum):
    """How far one spec of a launch has come. The last four are final, and say who pays for what."""

    QUEUED = "queued"
    """Not sent yet."""
    POSTING = "posting"
    """Its deploy is under way."""
    PROVISIONING = "provisioning"
    """It has an id, and costs money."""
    ACTIVE = "active"
    """It is as far as `until` asked, and the caller's own."""
    FAILED = "failed"
    """Nothing of it is running: never sent, refused, or failed and refunded."""
    TERMINATED = "terminated"
    """It was deployed and given up; the session sees it gone, before it closes at the latest."""
    UNKNOWN = "unknown"
    """It may be running and nobody ends it: kept by `on_failure="keep"`, or not to be found out."""


@attrs.frozen
class Outcome:
    """What came of one spec.

    Attributes:
        spec: what was deployed at last; after a fallback not what was asked for.
        index: the place of the spec in the launch, from 0.
        status: one of the final states.
        ref: the instance, None when none is known.
        instance: the instance as it was when it became active, else None.
        error: why it is not active. None when it is, or was given up without a fault of its own.
    """

    spec: Spec
    index: int
    status: LaunchState
    ref: InstanceRef | None = None
    instance: Instance | None = None
    error: FluenceError | None = None


@attrs.frozen
class Report:
    """What came of a launch; `outcomes`, and each selection of them, in the order of the specs."""

    outcomes: tuple[Outcome, ...] = ()

    @property
    def ready(self) -> tuple[Outcome, ...]:
        """Active, and the caller's."""
        return self._of(LaunchState.ACTIVE)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Nothing is running of these."""
        return self._of(LaunchState.FAILED)

    @property
    def terminated(self) -> tuple[Outcome, ...]:
        """The session has ended these, or is about to."""
        return self._of(LaunchState.TERMINATED)

    @property
    def unknown(self) -> tuple[Outcome, ...]:
        """These may be running and billing, and are the caller's to look after."""
        return self._of(LaunchState.UNKNOWN)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances of `ready`."""
        return tuple(outcome.instance for outcome in self.ready if outcome.instance is not None)

    @property
    def hourly_cost(self) -> Decimal:
        """What the instances of `ready` cost together in one hour, in USDC."""
        return sum((instance.billing.hourly_usage for instance in self.instances), Decimal(0))

    def _of(self, status: LaunchState) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status is status)

    def __str__(self) -> str:
        parts = ((len(self._of(state)), state) for state in LaunchState)
        return ", ".join(f"{count} {state}" for count, state in parts if count) or "nothing"


@attrs.frozen
class LaunchProgress:
    """One spec of a launch has come a step further.

    Attributes:
        index: the place of the spec in the launch, from 0.
        spec: the spec; after a fallback the one that is now tried.
        state: how far it has come.
        ref: the instance, once it has an id.
        error: why it failed, if it did.
        counts: how many specs of the launch are in each state now.
        eta: seconds until the last one will be active, roughly: by how long this launch's own have taken,
            150 s until the first of them is; 0.0 when nothing is under way.
    """

    index: int
    spec: Spec
    state: LaunchState
    ref: InstanceRef | None
    error: FluenceError | None
    counts: Mapping[str, int]
    eta: float


OnProgress: TypeAlias = Callable[[LaunchProgress], object]


class Tally:
    """Counts the specs of a launch by state, and tells of each step."""

    def __init__(self, total: int, hear: OnProgress | None) -> None:
        self.counts: dict[str, int] = dict.fromkeys(LaunchState, 0)
        self.counts[LaunchState.QUEUED] = total
        self._total = total
        self._hear = hear
        self._began = self._last_posted = _now()
        self._took = 0.0

    def move(self, was: LaunchState, outcome: Outcome, since: float) -> None:
        """A spec has left the state `was`, in which it had been since that loop time."""
        now, state = _now(), outcome.status
        self.counts[was] -= 1
        self.counts[state] += 1
        if state is LaunchState.PROVISIONING:
            self._last_posted = now
        elif state is LaunchState.ACTIVE:
            self._took += now - since
        self.tell(outcome)

    def tell(self, at: Outcome) -> None:
        """Tell where a spec is; `at` may be one that has not settled."""
        if self._hear is None:
            return
        counts = MappingProxyType(dict(self.counts))
        try:
            self._hear(LaunchProgress(at.index, at.spec, at.status, at.ref, at.error, counts, self._eta()))
        except Exception:  # what shows the progress must not cost an instance
            log.exception("on_progress failed")

    def _eta(self) -> float:
        queued, posting = self.counts[LaunchState.QUEUED], self.counts[LaunchState.POSTING]
        if not (queued or posting or self.counts[LaunchState.PROVISIONING]):
            return 0.0
        seen = self.counts[LaunchState.ACTIVE]
        typical = self._took / seen if seen else _TYPICAL
        if not (queued or posting):
            return max(0.0, self._last_posted + typical - _now())
        sent = self._total - queued
        return typical + (queued * (_now() - self._began) / sent if sent else 0.0)


def _now() -> float:
    return asyncio.get_running_loop().time()


class LaunchError(LifecycleError):
    """A launch of many was called off: too few could become ready, or nothing more could be deployed.

    Its `__cause__` is the error that did it, if it was one alone.

    Attributes:
        report: what came of each spec.
    """

    def __init__(self, message: str, *, report: Report | None = None) -> None:
        super().__init__(message)
        self.report: Report = report if report is not None else Report()

    def __reduce__(self) -> tuple[Any, ...]:
        kind, args, state = super().__reduce__()
        return kind, args, state | {"report": _shareable(self.report)}


def _shareable(report: Report) -> Report:
    return Report(
        tuple(
            attrs.evolve(
                outcome,
                spec=spec_without_secrets(outcome.spec),
                instance=without_secrets(outcome.instance),
            )
            for outcome in report.outcomes
        )
    )
