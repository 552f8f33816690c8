"""One spec of a launch on its way: its state, its instance, and its outcome once it has settled.

Plain data; `batch` moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import attrs

from ..errors import FluenceError, InstanceEndedError, InstanceFailedError, WaitTimeoutError
from ..models.instances import Instance, InstanceRef, Summary
from ..models.specs import Spec
from .policy import is_certain
from .report import LaunchState, Outcome
from .seen import Seen
from .shared_list import NamedRows
from .timeline import Times


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
    seen: Seen | None = None
    task: asyncio.Task[None] | None = None
    is_refused: bool = False
    is_settled: bool = False
    is_handed_over: bool = False

    def snapshot(self) -> Outcome:
        """The outcome so far; the final one as soon as the job has settled."""
        return Outcome(self.spec, self.index, self.state, self.ref, self.instance, self.error, self.times)

    def fate(self, error: FluenceError | None, *, can_end: bool) -> LaunchState:
        """Choose the final state of a job that ends with `error`, or that is cancelled if that is None.

        `can_end` says if the session will end the instance.
        """
        if self.state is LaunchState.QUEUED:
            return LaunchState.FAILED
        is_billing = isinstance(error, InstanceFailedError) and error.is_billing
        if isinstance(error, InstanceFailedError | InstanceEndedError) and not is_billing:
            return LaunchState.FAILED
        if self.ref is None and error is not None and is_certain(error):
            return LaunchState.FAILED
        is_cancelled = error is None or is_billing or isinstance(error, WaitTimeoutError)
        return LaunchState.TERMINATED if is_cancelled and can_end else LaunchState.UNKNOWN
