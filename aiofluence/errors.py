"""All exceptions of the library, as one tree. No error holds a secret, an HTTP object or a socket.

```
FluenceError                         .call .attempts .ref
├─ ConfigError                       no key, bad base_url, bad argument
├─ SpecError(ValueError)             refused before it was sent; .problems names all at once
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
   ├─ LaunchError                    a launch of many was called off; .report (in batch.report)
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
    """An attempt of a call: its outcome, and the pause before the next attempt.

    Attributes:
        error: the outcome.
        seconds: duration of the attempt.
        waited: seconds of the pause after the attempt; 0.0 after the last.
    """

    error: FluenceError
    seconds: float
    waited: float = 0.0


@attrs.frozen
class Sighting:
    """A poll of an instance that showed something new.

    Attributes:
        after: seconds since the start of the wait, by the event loop's clock.
        status: the status in the reply.
        at: moment of the poll by the service's clock, to about a second; None when no reply had a date.
    """

    after: float
    status: Status
    at: datetime | None = None


class FluenceError(Exception):
    """Base class of every exception that this library raises itself.

    Attributes:
        call: method and path of the call that failed, without secrets; None when no call was involved.
        attempts: every attempt of that call, in order.
        ref: the instance that a wait with `on_failure="keep"` leaves running; None without such an instance.
    """

    call: str | None = None
    ref: InstanceRef | None = None
    attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        where = f"{self.call}: " if self.call else ""
        tries = f" (after {len(self.attempts)} attempts)" if len(self.attempts) > 1 else ""
        return f"{where}{super().__str__()}{tries}"


class ConfigError(FluenceError, ValueError):
    """Invalid configuration: no key, a bad base_url, an invalid argument; nothing was sent."""


class SpecError(FluenceError, ValueError):
    """A request that the service would refuse, so it was not sent.

    Attributes:
        problems: all problems, one sentence each. Each sentence begins with the field.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        return "\n".join((f"{count} problem{'s' * (count > 1)}, nothing was sent:", *self.problems))


class WireError(FluenceError):
    """A call without a reply."""


class NotSentError(WireError):
    """A request that was certainly not sent: connecting, DNS or TLS failed, or the session is closed.

    Attributes:
        permanent: True if another attempt cannot help (a bad certificate, a closed session).
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


class NoReplyError(WireError, TimeoutError):
    """A request that may have arrived, and may have taken effect, but brought no usable reply.

    Attributes:
        phase: progress of the last attempt: `connected`, `sent` or `head` (the head of the reply arrived).
    """

    def __init__(self, message: str, *, phase: str = "sent") -> None:
        super().__init__(message)
        self.phase = phase


class UncertainDeployError(WireError):
    """A deploy whose instance may exist: the session could not find it or rule it out in time.

    Attributes:
        name: the name of the deploy, by which its instance can be found.
        candidates: live instances of that name, any of which may be the instance of the deploy.
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
        """Poll once more; return the live instance of that name, or None when a complete list has none.

        Raises:
            FluenceError: the poll failed, or the error has crossed a process boundary.
        """
        if self._resolve is None:
            raise ConfigError("this error has lost its session; list the instances and search for the name")
        return await self._resolve()

    def __reduce__(self) -> tuple[type[UncertainDeployError], tuple[object, ...], dict[str, object]]:
        return type(self), (self.name, self.candidates), {"call": self.call, "attempts": self.attempts}


class ReplyError(FluenceError):
    """A refusal by the service.

    Attributes:
        status: HTTP status; 0 when the refusal is no single reply, as in `plans.cheapest`.
        detail: the explanation, in the service's words where it sent any. `str(error)` has blanks in place
            of characters that a terminal or a log would obey instead of show.
    """

    def __init__(self, detail: str, *, status: int = 0, call: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.call = call

    def __str__(self) -> str:
        text = super().__str__()
        if not self.status:  # the library wrote the text, which may have several lines
            return "\n".join(map(visible, text.splitlines()))
        return f"{visible(text)} [HTTP {self.status}]"


class AuthError(ReplyError):
    """401 or 403: the key is missing, wrong, or lacks permission. `reason` is set if the reply names one."""

    reason: Literal["expired", "read-only"] | None = None


class RefusedError(ReplyError):
    """400: a rule of the service forbids the request. The text of the reply selects the subclass."""


class InsufficientBalanceError(RefusedError):
    """The balance does not cover the hours that the service charges at the deploy."""


class PlanUnavailableError(RefusedError):
    """The plan is sold out or gone, or no available offer matches the arguments of `plans.cheapest`."""


class UnsupportedImageError(RefusedError):
    """The `os_image` is not among the images of the option.

    Attributes:
        options: images that the service says it accepts; empty when the library cannot parse the text.
    """

    options: tuple[str, ...] = ()


class NotActiveError(RefusedError):
    """The instance is not ACTIVE. Only ACTIVE instances can be terminated or updated."""


class UpdateInProgressError(RefusedError):
    """The service is still applying an earlier update."""


class MinimumRuntimeError(RefusedError):
    """The instance is younger than its provider's minimum, so it cannot be ended. It is still billing.

    Attributes:
        retry_after: seconds until the service ends it; None when the text does not say.
    """

    retry_after: float | None = None


class NotFoundError(ReplyError):
    """404: the account has no such instance."""


class InvalidRequestError(ReplyError):
    """422: the service rejected fields as invalid.

    Attributes:
        problems: one sentence per field, `where: what`, without the rejected values.
    """

    problems: tuple[str, ...] = ()


class RateLimitedError(ReplyError):
    """429: too many requests.

    Attributes:
        retry_after: seconds to wait; None when the service sent no valid value.
    """

    retry_after: float | None = None


class ServerError(ReplyError):
    """5xx: a failure in the service, or in a gateway before the service.

    Attributes:
        retry_after: seconds to wait; None when the service sent no valid value.
    """

    retry_after: float | None = None


class DecodeError(FluenceError):
    """A reply that is not in the service's format, whatever its status. It proves nothing about an instance.

    Examples are a success with a body that breaks the contract, or a gateway's HTML page with 404. The
    message does not quote the body of a success, because the body may hold secrets.

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
    """An instance did not reach the state that a wait expected.

    Attributes:
        ref: the instance; None when the error is not about a single instance.
        last_seen: the last information about the instance, a detail or a row of a list.
        timeline: each status that the instance was seen in, in order.
        last_error: error of the last poll; None when the last poll succeeded.
        estimated_spend: estimated cost so far, in USDC; None when no detail was seen, zero for a failed
            provisioning. The sum of the spend in the last detail and the price of each hour charged since, by
            the service's clock. For a machine, it includes hours that begin in the first 20 minutes.
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
        """Resume the wait. It returns and raises what the original call would have.

        Args:
            timeout: seconds from now; None waits forever.

        Returns:
            The instance; None only where `terminate_and_wait` returns None.

        Raises:
            ConfigError: there is no wait to resume. No instance is known, the session is ending the instance
                (`on_failure="terminate"`), or the error has crossed a process boundary.
            FluenceError: as the call that raised this error.
        """
        if self._resume is None:
            raise ConfigError("there is no wait to resume; start from the error's ref")
        return await self._resume(timeout)

    async def terminate(self) -> None:
        """End the instance, whatever its status. If the caller is cancelled, the session continues.

        Raises:
            ConfigError: no instance is known, or the error has crossed a process boundary.
            NotSentError: the session is closed.
            AuthError: the key is not, or no longer, valid.
        """
        if self._terminate is None:
            raise ConfigError("this error has no session to end anything with; start from the error's ref")
        await self._terminate()

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle holds neither the session nor the secrets in the instance's configuration.
        state = {name: value for name, value in vars(self).items() if name not in ("_resume", "_terminate")}
        return type(self), self.args, state | {"last_seen": without_secrets(self.last_seen)}


class InstanceFailedError(LifecycleError):
    """Provisioning failed, which the service refunds in full, or a container does not stay up.

    Attributes:
        is_billing: True if the instance is ACTIVE, and is billed until it is ended. Its program exits and is
            restarted again and again, or its image cannot be pulled. False when the provisioning failed.
        events: the container's cluster events; empty for machines.
        logs: the container's last log lines.
    """

    is_billing: bool = False
    events: tuple[Event, ...] = ()
    logs: tuple[LogLine, ...] = ()

    def __str__(self) -> str:
        evidence = [event.raw for event in self.events[-5:]] + [line.raw for line in self.logs[-5:]]
        return "\n  ".join((super().__str__(), *map(visible, evidence)))


class InstanceEndedError(LifecycleError):
    """The instance ended, or disappeared, during a wait for another state."""


class WaitTimeoutError(LifecycleError, TimeoutError):
    """The timeout of a wait ran out. `on_failure` decides the fate of the instance."""


class CustodyError(LifecycleError):
    """The session closed before all instances in its custody were gone: some may still be billing.

    Attributes:
        refs: the instances that may still be running.
        names: names of uncertain deploys, whose instances may be running as well.
    """

    refs: tuple[InstanceRef, ...] = ()
    names: tuple[str, ...] = ()
