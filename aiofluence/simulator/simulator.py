"""The simulated GPU Cloud as one object: the service, its faults, and the knobs a test turns.

A pure state machine: it opens no socket, starts no task and reads no clock. Its time is what the
caller says, in seconds since the service started; the doors are `wire` and `server`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from math import inf
from typing import get_args
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
from .options import HasOptions
from .plans import Catalog, Kind
from .profile import DEFAULT_PROFILE, Profile, ProfileName
from .routes import operation as operation_of
from .timing import Provisioning
from .world import World

DEFAULT_API_KEY = "simulator-key"
"""What a simulator takes for the key unless told."""
DEFAULT_START = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)


@attrs.frozen
class SeenRequest:
    """One request that reached the service.

    Attributes:
        at: simulated seconds.
        operation: `"METHOD /template"`, None for what the service does not offer.
        status: of the answer, None when there was none.
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
        seed: everything drawn at random follows from it; equal seeds give equal runs.
        api_key: the one key that is let in.
        balance: the account's USDC.
        profile: habits of the service: "likely", "kind", or a `Profile`; None is `DEFAULT_PROFILE`.
        provisioning: how long things take, in place of the profile's; can be replaced while it runs, for what
            comes after.
        start: the service's date and time at 0 seconds; aware.
        catalog: what is for sale, in place of the profile's dozen GPU models.
        cluster: how logs and events are written, in place of the profile's.
        list_lag: seconds for which a new instance is missing from LIST and unknown to every other call.
        rate_limit: the service's own pace; None is none.
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

    def reset(self, seed: int | None = None) -> None:
        """Begin anew at second 0: no instance, no fault, every knob as it was when the simulator was made.

        Args:
            seed: another one; None keeps the present one.
        """
        self.requests: list[SeenRequest] = []
        """Every request that reached the service, in order; refused connections did not."""
        self._world: World = self._new_world(seed=self.seed if seed is None else seed)
        self._service = Service(self._world, self.api_key)
        self._faults = Faults()
        self._zeros: WeakKeyDictionary[object, dict[float, float]] = WeakKeyDictionary()
        self.rate_limit = self._first_rate_limit

    @property
    def seed(self) -> int:
        """What is drawn at random follows from it; another one counts for what is deployed from now on."""
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
        """The service's date and time of `now`, in UTC."""
        return self._world.calendar.at(self.now)

    def advance(self, now: float) -> None:
        """Let everything up to second `now` happen; an earlier second changes nothing."""
        self._world.timeline.advance(now)

    def seconds_at(self, clock: object, reading: float, scale: float = 1.0) -> float:
        """The simulated second that belongs to a clock's reading.

        A clock is known by its object, such as an event loop; its first reading belongs to `now`.
        So all doors in one loop share one time, and a new loop goes on where the last one stopped.
        A clock that `advance` has overtaken goes on from `now`.
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
        """Answer a request at second `now`, or do to it what the faults say. This is what doors call."""
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
        true_answer = script.when == "after" or script.fault.delay > 0  # a late answer is a true answer
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
        """How many requests reached the service: of one `"METHOD /template"`, or all."""
        if operation == "*":
            return len(self.requests)
        return sum(request.operation == operation for request in self.requests)

    # Instances

    def live(self) -> list[Instance]:
        """Instances that cost money or may: INITIALIZED or ACTIVE, as of `now`."""
        return self._world.live()

    def instances(self, kind: Kind | None = None) -> list[Instance]:
        """Every instance there ever was, oldest first."""
        return [i for i in self._world.instances.values() if kind in (None, i.kind)]

    def add_ended(self, number: int, kind: Kind = "container") -> None:
        """Give the account a past: that many ended instances of one kind, at no cost."""
        offer = self.catalog.find(kind)
        for index in range(number):
            self._world.add_ended(offer, f"old-{index}")

    # Money

    @property
    def balance(self) -> Decimal:
        """The account's USDC, without what is reserved."""
        return self._world.account.balance

    @property
    def opening_balance(self) -> Decimal:
        """The balance at the start: this and all amounts of the ledger make up `balance`."""
        return self._world.account.opening

    @property
    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every change of the balance, oldest first."""
        return tuple(self._world.account.ledger)

    @exact()
    def spent(self, instance_id: str | None = None) -> Decimal:
        """USDC spent for good, by one instance or by all; what is reserved is not in it."""
        return sum((i.bill.spent for i in self._billed(instance_id)), ZERO)

    @exact()
    def reserved(self, instance_id: str | None = None) -> Decimal:
        """USDC held back, for one instance or for all."""
        return sum((i.bill.reserved for i in self._billed(instance_id)), ZERO)

    def _billed(self, instance_id: str | None) -> Sequence[Instance]:
        return self.instances() if instance_id is None else [self.get_instance(instance_id)]

    def set_balance(self, balance: Decimal | str | int) -> None:
        """Set the account's USDC; the ledger notes the adjustment."""
        self._world.account.adjust(Decimal(balance), self.now)

    # The service's faces

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
        """The service's own pace; a new one begins with a full bucket."""
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
            fault: what happens.
            times: to how many requests; None is all that come.
            skip: how many matching requests pass first.
            when: `"before"` the request takes effect (it then does not) or `"after"`.
            commit_after: with `"before"`: it takes effect after all, that many seconds later.

        Raises:
            ValueError: there is no such operation, or the combination makes no sense.
        """
        script = Script(operation, fault, times, skip, when, commit_after)
        self._faults.scripts.append(script)
        return script

    @property
    def scripts(self) -> tuple[Script, ...]:
        """The scripted faults, spent ones too, in the order in which they strike."""
        return tuple(self._faults.scripts)

    def random_faults(
        self, rate: float = 0.05, *, seed: int | None = None, choices: Sequence[Fault] = RANDOM_FAULTS
    ) -> None:
        """Let a share of all requests go wrong, before or after they take effect; 0 stops it.

        A 429 or 503 always comes before. Scripted faults go first.

        Raises:
            ValueError: the rate is not between 0 and 1.
        """
        self._faults.randomly(rate, self.seed if seed is None else seed, choices)

    def clear_faults(self) -> None:
        """Forget every fault, scripted or random."""
        self._faults.clear()
