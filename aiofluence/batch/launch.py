"""Launching many instances: the order of the deploys, the fate of each job, and the end of the launch.

A launch is one task of the session, with a child task for each instance in flight. No scope or group is open
while the caller's code runs. `lifecycle` deploys, waits and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable
from os.path import commonprefix
from types import TracebackType
from typing import Final, Self

from ..errors import (
    AuthError,
    ConfigError,
    FluenceError,
    InstanceFailedError,
    InsufficientBalanceError,
    InvalidRequestError,
    LifecycleError,
    NotSentError,
    PlanUnavailableError,
    UnsupportedImageError,
    WaitTimeoutError,
)
from ..lifecycle.arguments import as_list, deadlines
from ..lifecycle.instance import InstanceLifecycle
from ..lifecycle.wait import is_deadline
from ..models.instances import InstanceRef
from ..models.specs import Spec
from ..polling.state import WaitHistory
from ..resources.account import Account
from .job import Job
from .options import Budget, Terms
from .outage import Outage
from .preparation import Preparation
from .progress import Tally
from .report import LaunchError, LaunchState, Outcome, Report
from .trials import Trials

log: Final = logging.getLogger("aiofluence")

_AT_ONCE: Final = 32
"""Deploys of one launch in flight at once. If an error dooms all specs, no more than these are sent."""
_FATAL: Final = (AuthError, InsufficientBalanceError)
"""Errors of the key or the account, which the next spec would meet as well."""
_BAD_SPEC: Final = (InvalidRequestError, UnsupportedImageError)
"""Errors of a spec, which usually strike similar specs, too. A fallback's spec is an exception."""


class Launch:
    """A launch of many instances, as `async with fluence.launch(specs) as launch:`.

    `async for outcome in launch:` yields outcomes as they settle, and hands over their instances. At the
    exit, instances that were not handed over are given up: ended or kept, according to `on_failure`.
    """

    def __init__(
        self, launcher: InstanceLifecycle, account: Account, specs: Iterable[Spec], terms: Terms
    ) -> None:
        self._lifecycle = launcher
        self._catalogue = launcher.deployer.catalogue
        self._account = account
        self._terms = terms
        self._jobs = [Job(index, spec, spec) for index, spec in enumerate(map(terms.wanted, as_list(specs)))]
        self._budget = Budget(self._catalogue)
        self._outage = Outage(None)
        self._deadline: float | None = None
        self._capacity_until: float | None = None
        self._work: asyncio.Future[None] | None = None
        self._block = contextlib.ExitStack()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._trials = Trials(terms.until, lambda job, error: self._settle(job, LaunchState.FAILED, error))
        self._settled: deque[Job] = deque()
        self._news = asyncio.Event()
        self._tally: Tally
        self._closed_by: FluenceError | None = None
        self._stopped = False
        self._failure: Exception | None = None
        self._cause: FluenceError | None = None

    @property
    def report(self) -> Report:
        """The outcomes that have settled so far."""
        return Report(tuple(job.snapshot() for job in self._jobs if job.is_settled))

    # The caller's side

    async def __aenter__(self) -> Self:
        if self._work is not None:
            raise ConfigError("a launch is entered once; make a new one")
        with self._lifecycle.tasks.at_work():
            await self._begin()
            self._block.enter_context(self._lifecycle.tasks.at_work())
        return self

    async def _begin(self) -> None:
        names = [str(getattr(job.spec, "name", "")) for job in self._jobs]
        # The common prefix of the names is the prefix for a sweep.
        common = (commonprefix(names) or names[0]) if names else ""  # noqa: RUF071  (of letters, not folders)
        # A session that closes meanwhile waits for `ready`: the launch begins in the step that sets it.
        ready = asyncio.get_running_loop().create_future()
        self._lifecycle.custodian.expect(ready, common)
        try:
            await self.check()
            self._tally = Tally(len(self._jobs), self._lifecycle.times, self._terms.on_progress)
            for job in self._jobs:
                self._tally.report(job.snapshot())
            self._work = self._lifecycle.tasks.spawn(self._launch_all())
            self._work.add_done_callback(lambda _: self._news.set())
            if names:
                self._lifecycle.custodian.expect(self._work, common)
        finally:
            ready.set_result(None)

    async def check(self) -> tuple[InstanceRef, ...]:
        """Check everything that is checked before the first deploy, and deploy nothing: a dry run.

        Returns:
            The live instances that `adopt` would take.

        Raises:
            FluenceError: any error that the entry of the block would raise.
        """
        self._terms.check([job.spec for job in self._jobs])
        self._deadline, self._capacity_until = deadlines(self._terms.timeout, self._terms.wait_for_capacity)
        self._outage = Outage(self._deadline)
        if self._terms.timeout == 0 or not self._jobs:
            return ()  # no request will be sent
        prepare = Preparation(
            self._lifecycle, self._account, self._jobs, self._terms, self._outage, self._accept
        )
        try:
            async with asyncio.timeout_at(self._deadline):
                self._budget = await prepare()
        except TimeoutError as error:
            if not is_deadline(error):
                raise
            late = WaitTimeoutError("the launch's timeout ran out before anything was deployed")
            late.last_error = self._outage.last_error
            raise late from None
        return tuple(job.live.ref for job in self._jobs if job.live is not None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up the instances that were not handed over.

        A cancellation of the caller here leaves no instance behind: the session waits for the rest.
        """
        assert self._work is not None
        self._lifecycle.tasks.owner.check()
        with self._block:
            self._stop()
            # If all is done, do not suspend: a cancellation would lose outcomes that were just handed over.
            if not self._work.done():
                await asyncio.wait([self._work])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome, and hand over its instance.

        Raises:
            LaunchError: the launch was called off.
        """
        work = self._running()
        while True:
            if self._failure is None and self._settled and self._has_quorum():
                job = self._settled.popleft()
                self._hand_over(job)
                return job.snapshot()
            if work.done():
                self._raise_failure()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    async def complete(self) -> Report:
        """Wait for all outcomes, and hand all of them over at once.

        Raises:
            LaunchError: the launch was called off.
        """
        await asyncio.shield(self._running())
        self._raise_failure()
        for job in self._jobs:
            self._hand_over(job)
        self._settled.clear()
        return self.report

    def _hand_over(self, job: Job) -> None:
        job.is_handed_over = True
        if job.ref is not None and job.state is LaunchState.ACTIVE:
            self._lifecycle.custodian.hand_over(job.ref)

    def _running(self) -> asyncio.Future[None]:
        self._lifecycle.tasks.owner.check()
        if self._work is None:
            raise ConfigError("use it as `async with fluence.launch(specs) as launch:`")
        return self._work

    def _raise_failure(self) -> None:
        if self._work is not None:
            self._work.result()
        if isinstance(self._failure, LaunchError):
            self._failure.report = self.report
            raise self._failure from self._cause
        if self._failure is not None:
            raise self._failure

    def _has_quorum(self) -> bool:
        """Return True if the quorum is met: a hand-over before that might have to be taken back."""
        wanted = self._terms.min_ready
        return wanted is None or self._tally.counts[LaunchState.ACTIVE] >= wanted

    # The session's side

    async def _launch_all(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                async for job in self._trials.in_turn(self._jobs):
                    if not await self._may_send():
                        break
                    # Set before the task runs: from here on the POST may have been sent.
                    self._move(job, LaunchState.POSTING)
                    job.task = group.create_task(self._bring_up(job))
        finally:
            for job in self._jobs:
                if not job.is_settled:  # its task was cancelled
                    self._settle(job, self._fate(job, None), None)

    async def _may_send(self) -> bool:
        try:
            async with asyncio.timeout_at(self._deadline):
                await asyncio.sleep(0)  # a deadline that has passed raises here, even if a slot is free
                await self._slots.acquire()
        except TimeoutError:
            self._close(WaitTimeoutError("the launch's timeout ran out before this was sent"))
        return self._closed_by is None and not self._stopped

    async def _bring_up(self, job: Job) -> None:
        terms = self._terms
        try:
            try:
                job.ref = await self._deploy(job)
            finally:
                self._slots.release()
            job.history = WaitHistory(job.ref)
            self._move(job, LaunchState.PROVISIONING)
            if self._stopped:  # this deploy was completed only to learn its ref
                self._lifecycle.custodian.hand_over(job.ref)
                self._settle(job, LaunchState.UNKNOWN, None)
                return
            job.instance = await self._lifecycle.see_through(
                job.ref,
                terms.until,
                self._deadline,
                terms.on_failure,
                fresh=not terms.adopt,
                history=job.history,
            )
            self._settle(job, LaunchState.ACTIVE, None)
        except FluenceError as error:
            self._settle(job, self._fate(job, error), error)
            if isinstance(error, _FATAL) or (isinstance(error, _BAD_SPEC) and not job.fell_back):
                self._stop_similar(job, error)
        except Exception as error:  # from a fallback function, or unexpected in the deploy
            self._settle(job, LaunchState.FAILED if job.choice.is_refused else LaunchState.UNKNOWN, None)
            self._call_off(error)
        if job.is_settled:
            self._trials.settled(job)

    async def _deploy(self, job: Job) -> InstanceRef:
        """Deploy the job's spec. Repeat it while the service cannot be reached, or has no plan for it."""
        pauses = self._outage.pauses()
        while True:
            try:
                return await self._lifecycle.deploy(
                    job.spec,
                    self._deadline,
                    self._terms.on_failure,
                    adopt=self._terms.adopt,
                    hand_over=False,
                    known=job.known,
                    choice=job.choice,
                )
            except NotSentError as error:
                self._move(job, LaunchState.QUEUED)
                await self._outage.pause(error, pauses)
                self._move(job, LaunchState.POSTING)
            except PlanUnavailableError as error:
                await self._wait_for_capacity(job, error)

    async def _wait_for_capacity(self, job: Job, error: PlanUnavailableError) -> None:
        """Let other jobs deploy until a plan is listed. Raise `error` if there is no time for that."""
        self._catalogue.pause_after(error, self._capacity_until)
        self._move(job, LaunchState.QUEUED)
        self._slots.release()
        try:
            job.choice, job.known = await job.choice.wait(error, self._capacity_until), None
        finally:
            await self._slots.acquire()
        self._move(job, LaunchState.POSTING)

    def _accept(self, job: Job, spec: Spec) -> bool:
        """Take `spec` for the job, unless it is too dear."""
        if job.is_settled or not self._budget.book(job.index, spec):
            return False
        if job.state is LaunchState.POSTING and job.spec.plan_id and spec != job.spec:
            job.fell_back = True
            job.times = self._tally.stamp(job.times, job.state, job.history)
        job.spec = spec
        return True

    # The fate of jobs

    def _fate(self, job: Job, error: FluenceError | None) -> LaunchState:
        """The final state of a job that ends with `error`. None as `error` if the job is given up."""
        if job.is_over(error):
            return LaunchState.FAILED
        is_cancelled = error is None or isinstance(error, InstanceFailedError | WaitTimeoutError)
        can_end = self._terms.on_failure == "terminate" and not isinstance(self._closed_by, AuthError)
        if is_cancelled and can_end:
            return LaunchState.TERMINATED
        return LaunchState.UNKNOWN

    def _settle(self, job: Job, state: LaunchState, error: FluenceError | None) -> None:
        job.is_settled, job.error = True, error
        self._move(job, state)
        self._settled.append(job)
        if state is not LaunchState.ACTIVE:
            if state is not LaunchState.UNKNOWN:
                self._budget.free(job.index)
            self._check_quorum(job)
        self._news.set()

    def _stop_similar(self, job: Job, error: FluenceError) -> None:
        """Call the launch off, since unsent specs would meet the same error. A quorum decides alone."""
        if self._terms.min_ready is None:
            self._call_off(LaunchError(f"called off at {job.spec.name}: {error}"), error)
        else:
            self._close(error)

    def _close(self, error: FluenceError) -> None:
        """Send no more deploys: queued jobs fail with `error`."""
        if self._closed_by is None:
            self._closed_by = error
            self._trials.close()
            for job in self._jobs:
                if job.state is LaunchState.QUEUED:
                    self._settle(job, LaunchState.FAILED, error)
                    if job.task is not None:  # it waits for the service to be reachable
                        job.task.cancel()

    def _check_quorum(self, job: Job) -> None:
        wanted = self._terms.min_ready
        if wanted is None:
            return
        final = (LaunchState.FAILED, LaunchState.TERMINATED, LaunchState.UNKNOWN)
        possible = len(self._jobs) - sum(self._tally.counts[state] for state in final)
        if possible < wanted:
            why = f"; {job.spec.name}: {job.error}" if job.error is not None else ""
            text = f"called off: {possible} of at least {wanted} could become ready{why}"
            self._call_off(LaunchError(text), self._closed_by)

    def _call_off(self, failure: Exception, cause: FluenceError | None = None) -> None:
        if self._failure is None and not self._stopped:
            self._failure, self._cause = failure, cause
            self._stop(cause)

    def _stop(self, cause: FluenceError | None = None) -> None:
        """Send no more deploys, and give up the instances that were not handed over."""
        if self._stopped:
            return
        self._stopped = True
        self._close(cause or LifecycleError("the launch was given up before this was sent"))
        keep = self._terms.on_failure == "keep"
        for job in self._jobs:
            if job.state is LaunchState.ACTIVE and not job.is_handed_over:
                assert job.ref is not None
                if keep:
                    self._hand_over(job)
                else:
                    self._lifecycle.custodian.take(job.ref)
                    self._move(job, LaunchState.TERMINATED)
            # A kept instance needs an id: a deploy whose reply is in flight continues until it comes.
            elif job.task is not None and not (keep and job.state is LaunchState.POSTING):
                job.task.cancel()

    def _move(self, job: Job, state: LaunchState) -> None:
        was, job.state = job.state, state
        job.times = self._tally.stamp(job.times, state, job.history)
        self._tally.move(was, job.snapshot())
