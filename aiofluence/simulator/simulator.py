"""The simulated GPU Cloud as one object: the service, its faults and its options.

A pure state machine: it opens no socket, starts no task and reads no clock. Callers pass the time, in seconds
since the service started. `wire` and `server` carry requests to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from math import inf
from typing import Any, get_args
from weakref import WeakKeyDictionary

import attrs

from aiofluence.http.messages import Reply, Request

from .account import KeyState
from .billing import ZERO, LedgerEntry, exact
from .endpoints import ServerRateLimit, Service
from .events import ClusterOptions
from .faults import RANDOM_FAULTS, Effect, Fault, FaultOutcome, Faults, Moment, Script
from .hosting import HostsContainers
from .instances import Calendar, Instance
from .observed import read_observations
from .options import HasOptions
from .plans import Catalog, Kind
from .profile import DEFAULT_PROFILE, Profile, ProfileName
from .routes import operation as operation_of
from .timing import Provisioning
from .world import World

DEFAULT_API_KEY = "simulator-key"
"""The API key that a simulator accepts by default."""
DEFAULT_START = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)


@attrs.frozen
class SeenRequest:
    """Record of one request that reached the service.

    Attributes:
        at: simulated seconds.
        operation: `"METHOD /template"`, or None for a path or method that the service does not offer.
        status: status of the answer, or None if no answer was sent.
        effect: how the exchange ended.
    """

    at: float
    method: str
    path: str
    operation: str | None
    status: int | None
    effect: Effect


class Simulator(HostsContainers, HasOptions):
    """The whole service, simulated: catalogue, deploys, billing, logs, events and faults.

    Args:
        seed: seed of all random draws. Equal seeds give equal runs.
        api_key: the only key that the service accepts.
        balance: the account's USDC.
        profile: habits of the service: "likely", "kind", or a `Profile`. None means `DEFAULT_PROFILE`.
        provisioning: durations, in place of the profile's. `Simulator.provisioning` can replace them later.
        start: date and time of the service at second 0, with a time zone.
        catalog: plans for sale, in place of the profile's.
        cluster: options of logs and events, in place of the profile's.
        list_lag: seconds for which a new instance is missing from LIST and unknown to every other call.
        rate_limit: the service's rate limit. None means no limit.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        api_key: str = DEFAULT_API_KEY,
        balance: Decimal | str | int = "1000",
        profile: Profile | ProfileName | None = None,
        provisioning: Provisioning | None = None,
        start: datetime = DEFAULT_START,
        catalog: Catalog | None = None,
        cluster: ClusterOptions | None = None,
        list_lag: float = 0.0,
        rate_limit: ServerRateLimit | None = None,
    ) -> None:
        if start.tzinfo is None:
            raise ValueError("start needs a time zone")
        self.api_key = api_key
        habits = Profile.of(DEFAULT_PROFILE if profile is None else profile)
        self._new_world = partial(
            World,
            balance=Decimal(balance),
            catalog=catalog,
            calendar=Calendar(start.astimezone(UTC)),
            profile=attrs.evolve(
                habits,
                provisioning=provisioning or habits.provisioning,
                cluster=cluster or habits.cluster,
            ),
            list_lag=list_lag,
        )
        self._first_rate_limit = rate_limit
        self.reset(seed)

    @classmethod
    def from_observations(cls, path: str | os.PathLike[str], **options: Any) -> Simulator:
        """Create a simulator that behaves as `aiofluence conformance` has observed the service.

        Contradicted claims change the profile "likely". Every other claim stays as it is.

        Args:
            path: file of observations.
            options: options as for `Simulator`, except `profile`, `list_lag` and `rate_limit`.

        Raises:
            ValueError: the file is no file of observations.
            OSError: the file cannot be read.
        """
        observed = read_observations(path)
        return cls(
            profile=Profile.of("likely").replace(**observed.profile),
            list_lag=observed.list_lag,
            rate_limit=observed.rate_limit,
            **options,
        )

    def reset(self, seed: int | None = None) -> None:
        """Begin anew at second 0, without instances or faults, and with the options of construction.

        Args:
            seed: a new seed. None keeps the present one.
        """
        self.requests: list[SeenRequest] = []
        """Every request that reached the service, in order. Refused connections are not in the list."""
        self._world: World = self._new_world(seed=self.seed if seed is None else seed)
        self._service = Service(self._world, self.api_key)
        self._faults = Faults()
        self._zeros: WeakKeyDictionary[object, dict[float, float]] = WeakKeyDictionary()
        self.rate_limit = self._first_rate_limit

    @property
    def seed(self) -> int:
        """Seed of all random draws. A new seed applies to later deploys."""
        return self._world.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._world.seed = seed

    # Time

    @property
    def now(self) -> float:
        """The simulated second up to which everything has happened."""
        return self._world.timeline.now

    @property
    def time(self) -> datetime:
        """Date and time of the service at `now`, in UTC."""
        return self._world.calendar.at(self.now)

    def advance(self, now: float) -> None:
        """Let everything up to second `now` happen. An earlier second changes nothing."""
        self._world.timeline.advance(now)

    def seconds_at(self, clock: object, reading: float, scale: float = 1.0) -> float:
        """Convert a clock's reading to a simulated second.

        An object identifies the clock, such as an event loop. The clock's first reading corresponds to `now`.
        All wires and servers in one loop share one time, and a new loop continues where the last one stopped.
        If `advance` has overtaken a clock, that clock continues from `now`.
        """
        zeros = self._zeros.setdefault(clock, {})
        zero = max(zeros.get(scale, -inf), self.now - reading * scale)
        zeros[scale] = zero
        return zero + reading * scale

    # Requests

    def handle(self, request: Request, now: float) -> Reply:
        """Answer a request at second `now`, without faults."""
        self.advance(now)
        reply = self._service.answer(request)
        self._note(request, FaultOutcome(reply))
        return reply

    def receive(self, request: Request, now: float) -> FaultOutcome:
        """Answer a request at second `now`, or apply a fault to it. Wires and servers call this method."""
        self.advance(now)
        names = ["*", f"{request.method} {request.path}"]
        if operation := operation_of(request.method, request.path):
            names.append(operation)
        script = self._faults.pick(names)
        outcome = (
            FaultOutcome(self._service.answer(request)) if script is None else self._strike(script, request)
        )
        if outcome.effect is not Effect.REFUSE:
            self._note(request, outcome)
        return outcome

    def _strike(self, script: Script, request: Request) -> FaultOutcome:
        true_answer = script.when == "after" or script.fault.delay > 0  # a late answer is still the true one
        reply = self._service.answer(request) if true_answer else None
        if script.commit_after is not None:
            self._world.timeline.at(self.now + script.commit_after, lambda at: self._commit_late(request))
        return script.fault.outcome(reply, self._service.date)

    def _commit_late(self, request: Request) -> None:
        self._service.answer(request)

    def _note(self, request: Request, outcome: FaultOutcome) -> None:
        status = outcome.reply.status if outcome.reply else None
        operation = operation_of(request.method, request.path)
        self.requests.append(
            SeenRequest(self.now, request.method, request.path, operation, status, outcome.effect)
        )

    def count(self, operation: str = "*") -> int:
        """Count the requests that reached the service: all, or those of one `"METHOD /template"`."""
        if operation == "*":
            return len(self.requests)
        return sum(request.operation == operation for request in self.requests)

    # Instances

    def live(self) -> list[Instance]:
        """Return the instances that cost money or may do so: INITIALIZED or ACTIVE, as of `now`."""
        return self._world.live()

    def instances(self, kind: Kind | None = None) -> list[Instance]:
        """Return every instance that ever existed, oldest first."""
        return [i for i in self._world.instances.values() if kind in (None, i.kind)]

    def add_ended(self, number: int, kind: Kind = "container") -> None:
        """Add `number` ended instances of one kind to the account's history, at no cost."""
        offer = self.catalog.find(kind)
        for index in range(number):
            self._world.add_ended(offer, f"old-{index}")

    # Money

    @property
    def balance(self) -> Decimal:
        """The account's USDC, without reserved amounts."""
        return self._world.account.balance

    @property
    def opening_balance(self) -> Decimal:
        """The balance at the start. `balance` is the sum of this and all amounts of the ledger."""
        return self._world.account.opening

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every change of the balance, oldest first."""
        return tuple(self._world.account.ledger)

    @exact()
    def spent(self, instance_id: str | None = None) -> Decimal:
        """Return the USDC spent finally, by one instance or by all. Reserved amounts are excluded."""
        return sum((i.bill.spent for i in self._billed(instance_id)), ZERO)

    @exact()
    def reserved(self, instance_id: str | None = None) -> Decimal:
        """Return the USDC reserved for one instance or for all."""
        return sum((i.bill.reserved for i in self._billed(instance_id)), ZERO)

    def _billed(self, instance_id: str | None) -> Sequence[Instance]:
        return self.instances() if instance_id is None else [self.get_instance(instance_id)]

    def set_balance(self, balance: Decimal | str | int) -> None:
        """Set the account's USDC. The ledger records the adjustment."""
        self._world.account.adjust(Decimal(balance), self.now)

    # Options of the service

    @property
    def key_state(self) -> KeyState:
        """State of the API key: "valid", "read-only" (refused by every GPU Cloud path) or "expired"."""
        return self._service.key_state

    @key_state.setter
    def key_state(self, state: KeyState) -> None:
        if state not in get_args(KeyState):
            raise ValueError(f"key_state must be one of {', '.join(get_args(KeyState))}, not {state!r}")
        self._service.key_state = state

    @property
    def list_lag(self) -> float:
        """Seconds for which a new instance is missing from LIST and unknown to every other call."""
        return self._world.list_lag

    @list_lag.setter
    def list_lag(self, seconds: float) -> None:
        self._world.list_lag = seconds

    @property
    def rate_limit(self) -> ServerRateLimit | None:
        """The service's rate limit. A newly assigned limit starts with a full bucket."""
        return self._service.rate_limit

    @rate_limit.setter
    def rate_limit(self, limit: ServerRateLimit | None) -> None:
        self._service.rate_limit = limit

    # Faults

    def fail(
        self,
        operation: str,
        fault: Fault,
        *,
        times: int | None = 1,
        skip: int = 0,
        when: Moment = "before",
        commit_after: float | None = None,
    ) -> Script:
        """Script a fault. Faults on one operation strike in the order in which they were scripted.

        Args:
            operation: `"POST /gpu/instances/"` as the contract's table writes it with `{id}`, the
                same with a real id, or `"*"` for every request.
            fault: the fault.
            times: number of requests to strike. None means all.
            skip: number of matching requests that pass first.
            when: `"before"` prevents the effect of the request, `"after"` lets the request take effect first.
            commit_after: with `"before"`, seconds after which the request takes effect nevertheless.

        Raises:
            ValueError: there is no such operation, or the arguments contradict each other.
        """
        return self.add_script(Script(operation, fault, times, skip, when, commit_after))

    def add_script(self, script: Script) -> Script:
        """Add a script, behind those that are there, and return it."""
        self._faults.scripts.append(script)
        return script

    @property
    def scripts(self) -> tuple[Script, ...]:
        """The scripted faults in the order in which they strike, including exhausted ones."""
        return tuple(self._faults.scripts)

    def random_faults(
        self, rate: float = 0.05, *, seed: int | None = None, choices: Sequence[Fault] = RANDOM_FAULTS
    ) -> None:
        """Apply faults to a share of all requests, before or after they take effect. A rate of 0 stops this.

        A 429 or 503 always comes before the effect. Scripted faults take precedence.

        Raises:
            ValueError: the rate is not between 0 and 1.
        """
        self._faults.randomly(rate, self.seed if seed is None else seed, choices)

    def warnings(self) -> list[str]:
        """Return a sentence for each scripted fault that never struck. Such a test may prove nothing.

        Cancelled faults are not in the list. `reset` and `clear_faults` forget all.
        """
        return self._faults.warnings()

    def clear_faults(self) -> None:
        """Remove every fault, scripted or random."""
        self._faults.clear()
