"""What came of a launch of many: an Outcome for each spec, the Report of all, and the error of a failed one.

Plain values; who is launched when, and what is called off, is `batch`'s.
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
    """Nothing is running, and that is certain: never sent, refused, or failed and refunded."""
    TERMINATED = "terminated"
    """Given up: ended, or being ended by the session; it bills until then, and the session waits for it."""
    UNKNOWN = "unknown"
    """It may be running, and the session does not end it: kept by `on_failure="keep"`, or not found out."""


_FATES: Final[dict[LaunchState, Fate]] = {
    LaunchState.ACTIVE: "ready",
    LaunchState.FAILED: "failed",
    LaunchState.TERMINATED: "given up",
    LaunchState.UNKNOWN: "unknown",
}


@attrs.frozen(repr=False)
class Outcome(Row):
    """What came of one spec.

    Attributes:
        spec: what was deployed at last; after a fallback not what was asked for.
        index: the place of the spec in the launch, from 0.
        status: one of the final states.
        ref: the instance, None when none is known.
        instance: the instance as it was when it became active, else None.
        error: why it is not active. None when it is, or was given up without a fault of its own.
        times: when it came how far.
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
    """What came of a launch; `outcomes`, and each selection of them, in the order of the specs."""

    outcomes: tuple[Outcome, ...] = ()

    @property
    def ready(self) -> tuple[Outcome, ...]:
        """Active, and the caller's."""
        return self._of(LaunchState.ACTIVE)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Nothing is running of these, and that is certain."""
        return self._of(LaunchState.FAILED)

    @property
    def terminated(self) -> tuple[Outcome, ...]:
        """Given up: the session has ended these, or is ending them, and they bill until then."""
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
        return total(instance.billing.hourly_usage for instance in self.instances)

    @property
    def least_cost(self) -> Decimal:
        """What the launch costs at least, in USDC, by the last look at each bill; see `estimated_spend`.

        For a machine, the hours that begin before the service ends it are included: it refuses DELETE for
        20 minutes after ACTIVE.
        """
        return total(map(_least, self.outcomes))

    def timeline(self) -> Timeline:
        """A picture of the launch: from queued to ready, a bar for each instance. `.save("launch.svg")`."""
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
