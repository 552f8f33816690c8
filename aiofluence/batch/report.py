"""The results of a launch: an Outcome for each spec, the Report of all, and the error of a failed launch.

Plain values. `launch` decides the order of the deploys, and when a launch is called off.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import attrs

from ..display.table import Cell, Row, Table
from ..display.timeline import Bar, Fate, Timeline, Times, draw
from ..errors import FluenceError, LifecycleError
from ..models.instances import Instance, InstanceRef, without_secrets
from ..models.money import ZERO, total
from ..models.specs import Spec, spec_without_secrets
from ..models.spending import estimate_spend


class LaunchState(StrEnum):
    """The state of one spec in a launch. The last four are final, and show who decides about the instance."""

    QUEUED = "queued"
    """The spec was not sent yet."""
    POSTING = "posting"
    """Its deploy is in flight."""
    PROVISIONING = "provisioning"
    """Its instance has an id, and bills."""
    ACTIVE = "active"
    """Its instance is in the state `until`, and belongs to the caller."""
    FAILED = "failed"
    """Certainly no instance is running: never sent, refused, or failed and refunded."""
    TERMINATED = "terminated"
    """Given up: ended, or being ended by the session, which waits for that. It bills until its end."""
    UNKNOWN = "unknown"
    """An instance may be running that the session does not end: `on_failure="keep"`, or uncertain."""


_FATES: Final[dict[LaunchState, Fate]] = {
    LaunchState.ACTIVE: "ready",
    LaunchState.FAILED: "failed",
    LaunchState.TERMINATED: "given up",
    LaunchState.UNKNOWN: "unknown",
}


@attrs.frozen(repr=False)
class Outcome(Row):
    """The result of one spec.

    Attributes:
        spec: spec of the last deploy. After a fallback, it differs from the given one.
        index: place of the spec in the launch, from 0.
        status: one of the final states.
        ref: the instance. None if none is known.
        instance: the instance when it became active. None if it did not.
        error: error because of which the spec is not active. None if it is active, or was given up without
            a fault of its own.
        times: times of the stages.
    """

    spec: Spec
    index: int
    status: LaunchState
    ref: InstanceRef | None = None
    instance: Instance | None = None
    error: FluenceError | None = None
    times: Times = attrs.field(factory=Times)

    def _cells(self, at: datetime | None = None) -> Mapping[str, Cell]:
        ready, error = self.times.ready, self.error
        return {
            "name": self.spec.name,
            "status": self.status,
            "USDC/h": self.instance.billing.hourly_usage if self.instance else None,
            "seconds": None if ready is None else round(ready),
            "error": f"{type(error).__name__}: {error}".splitlines()[0][:200] if error else None,
            "id": self.ref.id if self.ref else None,
        }


@attrs.frozen(repr=False)
class Report:
    """The results of a launch. `outcomes`, and each selection from them, is in the order of the specs."""

    outcomes: tuple[Outcome, ...] = ()

    @property
    def ready(self) -> tuple[Outcome, ...]:
        """Outcomes with an active instance, which belongs to the caller."""
        return self._of(LaunchState.ACTIVE)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Outcomes for which certainly no instance is running."""
        return self._of(LaunchState.FAILED)

    @property
    def terminated(self) -> tuple[Outcome, ...]:
        """Outcomes given up: the session has ended or is ending their instances, which bill until then."""
        return self._of(LaunchState.TERMINATED)

    @property
    def unknown(self) -> tuple[Outcome, ...]:
        """Outcomes whose instances may be running and billing. The caller must decide about them."""
        return self._of(LaunchState.UNKNOWN)

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances of `ready`."""
        return tuple(outcome.instance for outcome in self.ready if outcome.instance is not None)

    @property
    def hourly_cost(self) -> Decimal:
        """Price of all instances of `ready` for one hour, in USDC."""
        return total(instance.billing.hourly_usage for instance in self.instances)

    @property
    def least_cost(self) -> Decimal:
        """Least cost of the launch in USDC, from the last seen bills. See `estimated_spend`.

        For a machine, it includes the hours that begin before the service ends it: DELETE is refused for
        20 minutes after ACTIVE.
        """
        return total(map(_least, self.outcomes))

    def timeline(self) -> Timeline:
        """Draw the launch, with a bar per instance from queued to ready. `.save("launch.svg")` saves it."""
        return draw(
            Bar(outcome.spec.name, _FATES[outcome.status], outcome.times) for outcome in self.outcomes
        )

    def _of(self, status: LaunchState) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.status is status)

    def __str__(self) -> str:
        parts = ((len(self._of(state)), state) for state in LaunchState)
        return ", ".join(f"{count} {state}" for count, state in parts if count) or "nothing"

    def __repr__(self) -> str:
        return f"<Report {self}, {self.hourly_cost:f} USDC/h>"

    def _repr_html_(self) -> str:
        return Table(self.outcomes)._repr_html_(f"{self}, {self.hourly_cost:f} USDC/h")


def _least(outcome: Outcome) -> Decimal:
    if outcome.instance is not None:
        return estimate_spend(outcome.instance, None) or ZERO
    spend = outcome.error.estimated_spend if isinstance(outcome.error, LifecycleError) else None
    return spend or ZERO


class LaunchError(LifecycleError):
    """A launch was called off: too few instances could become ready, or no more could be deployed.

    Its `__cause__` is the error that caused this, if there is a single one.

    Attributes:
        report: the results so far.
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
