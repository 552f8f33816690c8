"""One spec of a launch on its way: its state, its instance, and its outcome once it has settled.

Plain data; `batch` moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import attrs

from ..display.timeline import Times
from ..errors import FluenceError, InstanceEndedError, InstanceFailedError
from ..lifecycle.policy import is_certain
from ..lifecycle.shared_list import NamedRows
from ..models.instances import Instance, InstanceRef, Summary
from ..models.specs import Spec
from ..polling.history import WaitHistory
from .report import LaunchState, Outcome


@attrs.define
class Job:
    """One spec on its way.

    Attributes:
        index: place of the spec in the launch, from 0.
        spec: the spec that is tried now; after a fallback another than `wanted`.
        wanted: the spec as it was given.
        known: the LIST of before the launch, in which an instance to adopt is found.
        live: the instance to adopt.
        others: the fallbacks not tried yet; None before the first is needed.
        is_refused: the last deploy was refused, so that no POST of this job can have made an instance.
        is_settled: the state is final.
        is_handed_over: the caller has the outcome, and the instance with it.
    """

    index: int
    spec: Spec
    wanted: Spec
    state: LaunchState = LaunchState.QUEUED
    ref: InstanceRef | None = None
    instance: Instance | None = None
    error: FluenceError | None = None
    known: NamedRows | None = None
    live: Summary | None = None
    others: Iterator[Spec] | None = None
    times: Times = attrs.field(factory=Times)
    seen: WaitHistory | None = None
    task: asyncio.Task[None] | None = None
    is_refused: bool = False
    is_settled: bool = False
    is_handed_over: bool = False

    def snapshot(self) -> Outcome:
        """The outcome so far; the final one as soon as the job has settled."""
        return Outcome(self.spec, self.index, self.state, self.ref, self.instance, self.error, self.times)

    def is_over(self, error: FluenceError | None) -> bool:
        """Whether nothing of the job runs, for certain, when it ends with `error`."""
        if self.state is LaunchState.QUEUED:
            return True
        if isinstance(error, InstanceFailedError):
            return not error.is_billing
        if isinstance(error, InstanceEndedError):
            return True
        return self.ref is None and error is not None and is_certain(error)
