"""Every exception of the library, as one tree. No error carries a secret, an HTTP object or a socket.

```
FluenceError
├─ ConfigError                       no key, bad base_url, bad argument
├─ SpecError(ValueError)             refused before sending; .problems names every field at once
│                                    on every error: .call .attempts
├─ WireError                         no reply
│  ├─ NotSentError                   certainly not sent: connect, DNS, TLS; .permanent
│  ├─ NoReplyError(TimeoutError)     sent, no usable reply; .phase
│  └─ UncertainDeployError           a deploy that may exist: .name .candidates .resolve()
├─ ReplyError                        .status .detail
│  ├─ AuthError                      401, 403; .reason
│  ├─ RefusedError                   400
│  │  ├─ InsufficientBalanceError · PlanUnavailableError · UnsupportedImageError (.options)
│  │  ├─ NotActiveError · UpdateInProgressError
│  │  └─ MinimumRuntimeError         .retry_after
│  ├─ NotFoundError                  404
│  ├─ InvalidRequestError            422; .problems
│  ├─ RateLimitedError               429; .retry_after
│  └─ ServerError                    5xx; .retry_after
├─ DecodeError                       a reply that is not in the service's format; .path .status
└─ LifecycleError                    .ref .last_seen .timeline .last_error .estimated_spend
   │                                 .resume() .terminate()
   ├─ InstanceFailedError            .is_billing .events .logs
   ├─ InstanceEndedError
   ├─ WaitTimeoutError(TimeoutError)
   ├─ LaunchError                    a launch of many was called off; .report (lives in lifecycle.report)
   └─ CustodyError                   something may still be running; .refs .names
```
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import attrs

from .display.table import visible
from .models.instances import Instance, InstanceRef, Summary, without_secrets
from .models.logs import Event, LogLine
from .models.values import Status


@attrs.frozen
class Attempt:
    """One try of a call: what came of it, and how long was waited before the next.

    Attributes:
        error: what came of it.
        seconds: how long the try took.
        waited: seconds slept afterwards; 0.0 after the last.
    """

    error: FluenceError
    seconds: float
    waited: float = 0.0


@attrs.frozen
class Sighting:
    """One look at an instance that showed something new.

    Attributes:
        after: seconds since the wait began (the event loop's clock).
        status: the status seen.
        at: the same moment by the service's clock, to about a second; None when it never told its time.
    """

    after: float
    status: Status
    at: datetime | None = None


class FluenceError(Exception):
    """The root: whatever this library raises on its own account is one of these.

    Attributes:
        call: method and path of the call that failed, without secrets; None when it was no call.
        attempts: every try of that call, in order.
        ref: the instance that a wait with `on_failure="keep"` leaves running; None without one.
    """

    call: str | None = None
    ref: InstanceRef | None = None
    attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        where = f"{self.call}: " if self.call else ""
        tries = f" (after {len(self.attempts)} attempts)" if len(self.attempts) > 1 else ""
        return f"{where}{super().__str__()}{tries}"


class ConfigError(FluenceError, ValueError):
    """No key, a bad base_url, an argument that makes no sense; nothing was sent."""


class SpecError(FluenceError, ValueError):
    """The service would refuse this request, so it was not sent.

    Attributes:
        problems: one sentence per problem, all of them, each beginning with the field.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join((f"{len(self.problems)} problem(s), nothing was sent:", *self.problems))


class WireError(FluenceError):
    """No reply came."""


class NotSentError(WireError):
    """The request certainly never left: connecting, DNS or TLS failed, or the session is closed.

    Attributes:
        permanent: trying again cannot help (a bad certificate, a closed session).
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class NoReplyError(WireError, TimeoutError):
    """The request may have arrived, but no usable reply came back: what it does may have happened.

    Attributes:
        phase: how far the last attempt got: `connected`, `sent` or `head` (head of the reply seen).
    """

    def __init__(self, message: str, *, phase: str = "sent") -> None:
        super().__init__(message)
        self.phase = phase


class UncertainDeployError(WireError):
    """A deploy that may have happened, and could not be found or ruled out in time.

    Attributes:
        name: the name that was deployed: the key to look for.
        candidates: live instances of that name that it may be.
    """

    def __init__(
        self,
        name: str,
        candidates: Sequence[InstanceRef] = (),
        resolve: Callable[[], Awaitable[InstanceRef | None]] | None = None,
    ) -> None:
        super().__init__(f"whether {name!r} was deployed is not known; it may be billing")
        self.name = name
        self.candidates: tuple[InstanceRef, ...] = tuple(candidates)
        self._resolve = resolve

    async def resolve(self) -> InstanceRef | None:
        """Look once more: the live instance of that name, or None when a good list shows none.

        Raises:
            FluenceError: the look itself failed, or the error has crossed a process boundary.
        """
        if self._resolve is None:
            raise ConfigError("this error has lost its session; list the instances and look for the name")
        return await self._resolve()

    def __reduce__(self) -> tuple[type[UncertainDeployError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.name, self.candidates), {"call": self.call, "attempts": self.attempts}


class ReplyError(FluenceError):
    """The service answered, and the answer is a refusal.

    Attributes:
        status: HTTP status; 0 where no single answer is the refusal, as in `plans.cheapest`.
        detail: what the service said, in its words where it gave any. The text of the error has blanks for
            what a terminal or a log would obey instead of show.
    """

    def __init__(self, detail: str, *, status: int = 0, call: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.call = call

    def __str__(self) -> str:
        text = super().__str__()
        if not self.status:  # the text is the library's own, which may have several lines
            return "\n".join(map(visible, text.splitlines()))
        return f"{visible(text)} [HTTP {self.status}]"


class AuthError(ReplyError):
    """401 or 403: the key is missing, wrong, or lacks permission; `reason` where the service names one."""

    reason: Literal["expired", "read-only"] | None = None


class RefusedError(ReplyError):
    """400: a rule of the service; the subclasses are told apart by its text."""


class InsufficientBalanceError(RefusedError):
    """The account cannot pay the hours that a deploy takes at once."""


class PlanUnavailableError(RefusedError):
    """The plan is sold out or gone, or nothing for rent fits what `plans.cheapest` was asked for."""


class UnsupportedImageError(RefusedError):
    """The `os_image` is none of the option's.

    Attributes:
        options: the images that the service says it would take; empty when its text could not be read.
    """

    options: tuple[str, ...] = ()


class NotActiveError(RefusedError):
    """Only ACTIVE instances can be terminated or updated."""


class UpdateInProgressError(RefusedError):
    """An earlier update is still being applied."""


class MinimumRuntimeError(RefusedError):
    """The instance has not run for its provider's minimum yet, so it cannot be ended; it goes on billing.

    Attributes:
        retry_after: seconds until the service ends it, None when its text does not say.
    """

    retry_after: float | None = None


class NotFoundError(ReplyError):
    """404: the account has no such instance."""


class InvalidRequestError(ReplyError):
    """422: the service found fields invalid.

    Attributes:
        problems: one sentence per field, `where: what`; what was sent is not repeated.
    """

    problems: tuple[str, ...] = ()


class RateLimitedError(ReplyError):
    """429: too fast.

    Attributes:
        retry_after: seconds to wait, None when the service gave none that makes sense.
    """

    retry_after: float | None = None


class ServerError(ReplyError):
    """5xx: trouble in the service or a gateway before it.

    Attributes:
        retry_after: seconds to wait, None when the service gave none that makes sense.
    """

    retry_after: float | None = None


class DecodeError(FluenceError):
    """A reply that is not in the service's format, whatever its status. It proves nothing about an instance.

    Such as a success with another body than the contract's, or a gateway's HTML page with 404. The body of
    a success is not quoted, because it may hold secrets.

    Attributes:
        path: place in the body, such as `$[3].billing.hourly_usage`.
        status: HTTP status of a reply other than 2xx; 0 for a 2xx.
    """

    def __init__(self, message: str, *, path: str = "$", call: str | None = None, status: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.call = call
        self.status = status


class LifecycleError(FluenceError):
    """An instance did not come to where it was awaited.

    Attributes:
        ref: the instance, None when there is not one alone.
        last_seen: the last thing known of it, a detail or a row of a list.
        timeline: each status it was seen in, in order.
        last_error: the last look that failed, if the last looks did.
        estimated_spend: what it has cost by now, in USDC: what the last detail said was spent, plus the
            price of each hour charged since, by the service's own clock, and of a machine's first 20 minutes,
            before which it cannot be ended; zero for a failed provisioning. None when no detail was seen.
    """

    last_error: FluenceError | None = None
    estimated_spend: Decimal | None = None
    _resume: Callable[[float | None], Awaitable[Instance | None]] | None = None
    _terminate: Callable[[], Awaitable[object]] | None = None

    def __init__(
        self,
        message: str,
        *,
        ref: InstanceRef | None = None,
        last_seen: Instance | Summary | None = None,
        timeline: Sequence[Sighting] = (),
    ) -> None:
        super().__init__(message)
        self.ref = ref
        self.last_seen = last_seen
        self.timeline: tuple[Sighting, ...] = tuple(timeline)

    async def resume(self, timeout: float | None = 900) -> Instance | None:
        """Go on waiting for what was awaited; what it then gives or raises is as it was.

        Args:
            timeout: seconds from now; None waits for ever.

        Returns:
            The instance; None only where `terminate_and_wait` would.

        Raises:
            ConfigError: there is nothing to go on with: no instance is known, the session is ending it
                (`on_failure="terminate"`), or the error has crossed a process boundary.
            FluenceError: as the call that raised this error.
        """
        if self._resume is None:
            raise ConfigError("there is no wait to go on with; start from the error's ref")
        return await self._resume(timeout)

    async def terminate(self) -> None:
        """See the instance gone, whatever its status; the session finishes if the caller is cancelled.

        Raises:
            ConfigError: no instance is known, or the error has crossed a process boundary.
            NotSentError: the session is closed.
            AuthError: the key is not, or no longer, good.
        """
        if self._terminate is None:
            raise ConfigError("this error has no session to end anything with; start from the error's ref")
        await self._terminate()

    def __reduce__(self) -> tuple[Any, ...]:
        # The session stays behind, and so does what the instance's configuration may hold.
        state = {name: value for name, value in vars(self).items() if name not in ("_resume", "_terminate")}
        return type(self), self.args, state | {"last_seen": without_secrets(self.last_seen)}


class InstanceFailedError(LifecycleError):
    """Provisioning failed, which the service refunds in full; or a container's program does not stay.

    Attributes:
        is_billing: the instance is ACTIVE and is billed until it is ended: its program exits and is started
            again and again, or its image cannot be pulled. False when the provisioning failed.
        events: the container's cluster events, oldest evidence of why; empty for machines.
        logs: its last log lines.
    """

    is_billing: bool = False
    events: tuple[Event, ...] = ()
    logs: tuple[LogLine, ...] = ()

    def __str__(self) -> str:
        told = [event.raw for event in self.events[-5:]] + [line.raw for line in self.logs[-5:]]
        return "\n  ".join((super().__str__(), *map(visible, told)))


class InstanceEndedError(LifecycleError):
    """The instance has ended, or is gone, while something else was awaited."""


class WaitTimeoutError(LifecycleError, TimeoutError):
    """The wait's timeout ran out; `on_failure` says what became of the instance."""


class CustodyError(LifecycleError):
    """The session closed before everything it had to end was seen gone: it may still be billing.

    Attributes:
        refs: the instances that may still run.
        names: what was deployed under these names is not known; it may run, too.
    """

    refs: tuple[InstanceRef, ...] = ()
    names: tuple[str, ...] = ()
