"""The state of one spec in a launch: its instance, and its outcome once it has settled.

Plain data, which `launch` changes.
"""

from __future__ import annotations

import asyncio

import attrs

from ..display.timeline import Times
from ..errors import FluenceError, InstanceEndedError, InstanceFailedError
from ..lifecycle.policy import is_certain
from ..lifecycle.shared_list import NamedRows
from ..models.instances import Instance, InstanceRef, Summary
from ..models.specs import Spec
from ..polling.history import WaitHistory
from ..resources.catalogue import Choice
from .report import LaunchState, Outcome


@attrs.define
class Job:
    """The state of one spec in a launch.

    Attributes:
        index: place of the spec in the launch, from 0.
        spec: spec of the present attempt, with the plan that was chosen. Without a plan before.
        wanted: the spec as it was given.
        state: state of the spec in the launch.
        ref: the instance. None before it has an id.
        instance: the instance when it became ready. None before.
        error: error that settled the job. None without one.
        known: the LIST from before the launch, in which an instance to adopt is found.
        live: the instance to adopt. None if there is none.
        choice: the specs that the deploy may send. Missing before the preparation.
        times: times of the stages.
        history: history of the wait. None before it begins.
        task: task that deploys and waits. None before it begins.
        fell_back: the service has refused the first plan.
        is_settled: the state is final.
        is_handed_over: the caller has the outcome, and with it the instance.
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
    choice: Choice = attrs.field(init=False)
    times: Times = attrs.field(factory=Times)
    history: WaitHistory | None = None
    task: asyncio.Task[None] | None = None
    fell_back: bool = False
    is_settled: bool = False
    is_handed_over: bool = False

    def snapshot(self) -> Outcome:
        """Return the outcome so far, which is final once the job has settled."""
        return Outcome(self.spec, self.index, self.state, self.ref, self.instance, self.error, self.times)

    def is_over(self, error: FluenceError | None) -> bool:
        """Return True if certainly no instance of the job runs when it ends with `error`."""
        if self.state is LaunchState.QUEUED:
            return True
        if isinstance(error, InstanceFailedError):
            return not error.is_billing
        if isinstance(error, InstanceEndedError):
            return True
        return self.ref is None and error is not None and is_certain(error)
