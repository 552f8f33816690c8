"""The session's two verbs for many at once, as `session` has them for its own.

Arguments and their meaning stand here; the work is `batch`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from ..lifecycle.instance import Launcher, OnFailure
from ..lifecycle.wait import Until
from ..models.specs import Spec
from ..resources.account import Account
from ..resources.plans import Plans
from .launch import Launch
from .options import Fallback, Terms
from .progress import OnProgress
from .report import Report


class LaunchesMany:
    """What a session does with many specs at once."""

    plans: Plans
    account: Account
    _launcher: Launcher

    async def deploy_all_and_wait(
        self,
        specs: Iterable[Spec],
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
    ) -> Report:
        """Deploy all specs, each once, wait for all of them, and report what came of each.

        Cancelled, it leaves nothing behind (or all of it, with `on_failure="keep"`): the instances are the
        caller's when the report is.

        Args:
            specs: of any kinds; each name once. `spec.many(20)` makes twenty of one.
            until: how far each must have come. Beyond ACTIVE, ten containers of one image and command are
                sent first. The others follow when one of them is ready; after three crash loops they do not.
            timeout: seconds for all of it; None waits for ever. What is not ready then has failed.
            on_failure: what becomes of an instance whose wait ends badly, and of all when the launch is
                called off: `"terminate"` or `"keep"`, which leaves it to you as `unknown`.
            min_ready: as soon as fewer than that many can become ready, the launch is called off. None takes
                whatever becomes ready, unless the key, the account or the service's judgement of a spec
                dooms the rest, too: then it is called off. With a number, that number alone decides.
            max_hourly: what all of it may cost in one hour, in USDC, checked before anything is sent. Then
                the account's balance is checked as well, if the service gives it.
            fallback: what to try, in this order, for a spec whose plan is gone: plan ids, offers, functions
                from spec to spec. One that is over `max_hourly`, or an offer that does not fit, is skipped.
            on_progress: called with each `LaunchProgress`, in the event loop: keep it short.
            adopt: resume a launch that was killed: take the live instances of these names, each at its own
                price, and deploy only those that are missing. Without it, names that are live are refused.

        Raises:
            SpecError: names every problem of every spec and argument; nothing was sent.
            ConfigError: names every problem: arguments that make no sense, names that are live already,
                plans that are not for sale, a total over `max_hourly`. Nothing was deployed.
            InsufficientBalanceError: with `max_hourly`, the balance cannot pay the first hours; nothing was
                deployed.
            LaunchError: it was called off; its `report` says what came of each.
            FluenceError: a list or the prices could not be had, as in `aiofluence.errors`; nothing was
                deployed.
        """
        terms = Terms(until, timeout, on_failure, min_ready, max_hourly, fallback, on_progress, adopt)
        async with Launch(self._launcher, self.plans, self.account, specs, terms) as launch:
            return await launch.complete()

    def launch(
        self,
        specs: Iterable[Spec],
        *,
        until: Until = Until.ACTIVE,
        timeout: float | None = 900,
        on_failure: OnFailure = "terminate",
        min_ready: int | None = None,
        max_hourly: Decimal | float | str | None = None,
        fallback: Sequence[Fallback] | Fallback = (),
        on_progress: OnProgress | None = None,
        adopt: bool = False,
    ) -> Launch:
        """`deploy_all_and_wait`, outcome by outcome, in the order in which they settle.

        `async with fluence.launch(specs) as launch:` and inside of it `async for outcome in launch:`. An
        outcome that came is yours, and its instance with it. Leaving the block, in whatever way, gives up
        the rest. With `min_ready`, the first outcome comes once that many are ready, so that a launch that
        is called off has nothing to take back.

        Args:
            specs: as for `deploy_all_and_wait`, as is every other argument.

        Raises:
            ConfigError: `specs` is not several of anything.
            FluenceError: as `deploy_all_and_wait`: when the block is entered or, for LaunchError, by the
                iteration.
        """
        terms = Terms(until, timeout, on_failure, min_ready, max_hourly, fallback, on_progress, adopt)
        return Launch(self._launcher, self.plans, self.account, specs, terms)
