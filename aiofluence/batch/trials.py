"""Trials: the first containers of a program in a launch. The others wait until a trial runs.

A program that exits again and again then costs a launch a few instances instead of all. `launch` sends and
settles.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeAlias

import attrs

from ..errors import InstanceFailedError, LifecycleError
from ..lifecycle.options import Until
from ..models.specs import ContainerSpec
from .job import Job
from .report import LaunchState

_FIRST: Final = 10
"""Containers of one program in flight at once before the first has become ready."""
_LOOPS: Final = 3
"""Number of containers in a crash loop after which no more of their program are sent."""

_Program: TypeAlias = tuple[str, str | None]
"""Image and startup command."""


@attrs.define(eq=False)
class _Trial:
    """The state of one program in a launch.

    Attributes:
        under_way: number of containers that were sent and have not settled, and of those that loop.
        ready: number of containers that have become ready.
        loops: names of containers in a crash loop.
        held: jobs that wait.
        error: reason why no more containers are sent. None while they are sent.
    """

    under_way: int = 0
    ready: int = 0
    loops: list[str] = attrs.field(factory=list)
    held: deque[Job] = attrs.field(factory=deque)
    error: LifecycleError | None = None

    @property
    def can_send(self) -> bool:
        """Return True if one more container may be sent."""
        return bool(self.ready) or self.under_way < _FIRST


class Trials:
    """The programs of one launch.

    A launch that waits for ACTIVE alone learns nothing about programs, and holds no job back.
    """

    def __init__(self, until: Until, refuse: Callable[[Job, LifecycleError], None]) -> None:
        self._learns = until is not Until.ACTIVE
        self._refuse = refuse
        self._trials: dict[_Program, _Trial] = {}
        self._news = asyncio.Event()
        self._closed = False

    async def in_turn(self, jobs: Iterable[Job]) -> AsyncIterator[Job]:
        """Yield the jobs in the order of the deploys, each as soon as it may be sent."""
        for job in jobs:
            trial = self._trial(job)
            if trial is None or job.live is not None:
                yield job
            elif trial.error is not None:
                self._refuse(job, trial.error)
            elif trial.can_send and not trial.held:
                trial.under_way += 1
                yield job
            else:
                trial.held.append(job)
        while (held := [trial for trial in self._trials.values() if trial.held]) and not self._closed:
            trial = next((trial for trial in held if trial.can_send), None)
            if trial is None:
                self._news.clear()
                await self._news.wait()
            else:
                trial.under_way += 1
                yield trial.held.popleft()

    def close(self) -> None:
        """End all waiting: none of the held jobs is sent."""
        self._closed = True
        self._news.set()

    def settled(self, job: Job) -> None:
        """Note that a sent job has settled. After too many crash loops, refuse the held jobs."""
        trial = self._trial(job)
        if trial is None:
            return
        trial.ready += job.state is LaunchState.ACTIVE
        if isinstance(job.error, InstanceFailedError) and job.error.is_billing:
            trial.loops.append(job.spec.name)  # and it stays under way: a second attempt would loop, too
        elif job.live is None:
            trial.under_way -= 1
        if trial.error is None and len(trial.loops) >= max(_LOOPS, trial.ready + 1):
            trial.error = LifecycleError(
                f"not deployed: {getattr(job.wanted, 'image', '')} does not stay: it exits again and again, "
                f"or cannot be pulled, in {', '.join(trial.loops)}"
            )
            while trial.held:
                self._refuse(trial.held.popleft(), trial.error)
        self._news.set()

    def _trial(self, job: Job) -> _Trial | None:
        spec = job.wanted
        if not (self._learns and isinstance(spec, ContainerSpec)):
            return None
        return self._trials.setdefault((spec.image, spec.startup_command), _Trial())
