"""The account's instances, and their changes as simulated time passes.

Nothing runs by itself: one queue holds every future action, and `advance` runs the due ones. Bodies,
statuses and HTTP belong to `endpoints`, prices to `billing`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from math import ceil, inf
from random import Random
from uuid import UUID

from . import events as cluster, validation as rules
from .billing import Bill, BilledAccount, exact
from .events import PodName
from .instances import (
    Calendar,
    ContainerInstance,
    ContainerSettings,
    ExposedPort,
    Instance,
    MachineInstance,
    State,
)
from .logs import CRASH_LINES, ContainerLog, PodLog
from .plans import Catalog, Json, Kind, PlanRow
from .profile import Profile
from .programs import Program
from .running import RunsContainers
from .stock import default_catalog, published_catalog
from .timing import Provisioning, Schedule


class World(RunsContainers):
    """Every instance that the account ever had. Ended instances are never removed."""

    def __init__(
        self,
        *,
        seed: int,
        balance: Decimal,
        catalog: Catalog | None,
        calendar: Calendar,
        profile: Profile,
        list_lag: float = 0.0,
    ) -> None:
        self.profile = profile
        self.calendar = calendar
        self.account: BilledAccount = BilledAccount(balance)
        self.timeline: Schedule = Schedule()
        self.programs: dict[str, Program] = {}
        self.taken_off: set[str] = set()
        self.capacities: dict[str, int | None] = {}
        self.failing_next: int = 0
        self.list_lag = list_lag
        self.instances: dict[str, Instance] = {}
        self.seed = seed
        self._catalog = catalog
        self._stock: dict[bool, Catalog] = {}
        self._by_kind: dict[Kind, list[Instance]] = {"container": [], "vm": [], "baremetal": []}
        self._live: dict[str, Instance] = {}
        self._namesakes: dict[tuple[Kind, str], int] = {}
        self._billing_due = False

    # Stock and lookups

    @property
    def catalog(self) -> Catalog:
        """Plans for sale: the test's catalogue, or the profile's."""
        if self._catalog is not None:
            return self._catalog
        published = self.profile.published_catalog
        if published not in self._stock:
            self._stock[published] = published_catalog() if published else default_catalog()
        return self._stock[published]

    @property
    def sold_out(self) -> set[str]:
        """Plans that cannot be deployed now: taken off by hand, or with all of their capacity in use."""
        used = Counter(instance.offer.id for instance in self._live.values())
        full = {plan for plan, count in used.items() if count >= self._capacity(plan)}
        return self.taken_off | full

    def _capacity(self, plan_id: str) -> float:
        given = self.capacities.get(plan_id, self.profile.capacity)
        return inf if given is None else given

    def live(self) -> list[Instance]:
        return list(self._live.values())

    def rows(self, kind: Kind) -> Iterator[Instance]:
        """Iterate over the instances of `kind` that a LIST shows, in the order of the LIST."""
        newest = self.timeline.now - self.list_lag
        rows = self._by_kind[kind]
        in_order = rows if self.profile.list_order == "oldest" else reversed(rows)
        return (i for i in in_order if not self.list_lag or i.created_at <= newest)

    def get(self, kind: Kind, instance_id: str) -> Instance:
        """Return an instance by its id.

        Raises:
            RequestRefusedError: 404, also during the `list_lag`.
        """
        found = self.instances.get(instance_id)
        unseen = found and self.list_lag and self.timeline.now < found.created_at + self.list_lag
        if found is None or found.kind != kind or unseen:
            rules.refuse(rules.NOT_FOUND, 404)
        return found

    def container(self, instance_id: str) -> ContainerInstance:
        """Return a container by its id.

        Raises:
            RequestRefusedError: 404.
        """
        found = self.get("container", instance_id)
        assert isinstance(found, ContainerInstance)
        return found

    # Effects of requests

    def deploy_container(self, order: rules.ContainerOrder) -> Instance:
        """Charge for a container and begin to provision it.

        Raises:
            RequestRefusedError: 400.
        """
        offer = self._on_sale("container", order.plan_id)
        if order.location is not None and order.location not in offer.locations:
            rules.refuse(f"Plan is not available in location {order.location}")
        if order.reserved_variable and self.profile.reserved_variable == "refused":
            rules.refuse(rules.RESERVED)
        rng, record = self._accept(offer, order.name)
        pod = PodName.draw(rng)
        location = order.location or rng.choice(offer.locations)
        seed = rng.getrandbits(64)
        does = self.program_of(order.settings)
        instance = ContainerInstance(
            **record,
            location=location,
            settings=order.settings,
            expose=order.expose,
            log=ContainerLog(self.new_pod(pod, seed, does), seed),
            program=does,
        )
        if order.reserved_variable:
            instance.failure = "environment variable SSH_PUBKEY is defined twice"
        elif not does.pullable and not self.profile.restarts:
            instance.failure = "pull"
        now = self.timeline.now
        ready = now + self._provision(instance)
        instance.pod_since = begin = now + (ready - now) / 2
        instance.events += cluster.scheduled(pod, order.settings.image, begin)
        if instance.failure is not None:
            instance.events += _failing_events(instance, rng, begin, ready)
        elif does.pullable:
            started = ready + self.profile.provisioning.start_delay
            instance.events += cluster.running(pod, order.settings.image, ready, started)
        return instance

    def deploy_machine(self, kind: Kind, order: rules.MachineOrder) -> Instance:
        """Charge for a machine and begin to provision it.

        Raises:
            RequestRefusedError: 400.
        """
        offer = self._on_sale(kind, order.plan_id)
        if order.os_image not in offer.os_options:
            rules.unsupported_image(order.os_image, offer.os_options)
        rng, record = self._accept(offer, order.name)
        instance = MachineInstance(
            **record,
            location=offer.locations[0],
            os_image=order.os_image,
            ssh_key=order.ssh_key,
            address=_address(rng),
        )
        until = self._provision(instance)
        if self.profile.machine_address == "early":
            self.timeline.at(self.timeline.now + until / 2, lambda at: self._addressed(instance))
        return instance

    def rename(self, instance: Instance, name: str) -> None:
        """Rename a machine immediately.

        Raises:
            RequestRefusedError: 400.
        """
        if not instance.live:
            rules.refuse(rules.NOT_UPDATABLE)
        instance.name = name
        self.touch(instance, self.timeline.now)

    def terminate(self, instance: Instance) -> None:
        """End an instance and refund its reserve immediately.

        Raises:
            RequestRefusedError: 400.
        """
        if instance.state is not State.ACTIVE:
            rules.refuse(rules.NOT_ACTIVE)
        now = self.timeline.now
        left = instance.active_at + self.profile.minimum_runtime - now
        if instance.kind != "container" and left > 0:
            rules.refuse_minimum(ceil(left / 60) if self.profile.minimum_runtime_text == "minutes" else None)
        self.end(instance, now)

    def refuse_room(self, instance: ContainerInstance, reason: str) -> None:
        """Make the provisioning of a container end FAILED, with an event that gives the reason."""
        now = self.timeline.now
        instance.failure = reason
        instance.events = [event for event in instance.events if event.at <= now]
        instance.events.append(cluster.not_scheduled(instance.log.pod.name, reason, now))

    def add_ended(self, offer: PlanRow, name: str) -> Instance:
        """Add an ended instance to the account's history, at no cost. Its details are invented."""
        rng, record = self._record(offer, name)
        record["location"] = offer.locations[0]
        instance: Instance
        if offer.kind == "container":
            instance = ContainerInstance(
                **record,
                settings=ContainerSettings(image="docker.io/library/ubuntu:24.04"),
                expose=(ExposedPort("22"),),
                log=ContainerLog(PodLog(PodName.draw(rng))),
            )
        else:
            instance = MachineInstance(
                **record,
                os_image=offer.os_options[0],
                ssh_key="ssh-ed25519 AAAA",
                address=_address(rng),
            )
        instance.state = State.ENDED
        self._add(instance)
        return instance

    # The parts of a deploy

    def _on_sale(self, kind: Kind, plan_id: str) -> PlanRow:
        offer = self.catalog.offers.get(plan_id)
        if offer is None or offer.kind != kind or not self._has_capacity(plan_id):
            rules.refuse(rules.PLAN_GONE)
        return offer

    def _has_capacity(self, plan_id: str) -> bool:
        capacity = self._capacity(plan_id)
        used = sum(instance.offer.id == plan_id for instance in self._live.values()) if capacity < inf else 0
        return plan_id not in self.taken_off and used < capacity

    def _accept(self, offer: PlanRow, name: str) -> tuple[Random, Json]:
        with exact():
            upfront = offer.hourly * offer.upfront_hours
        if self.account.balance < upfront:
            rules.refuse(rules.NO_BALANCE)
        return self._record(offer, name)

    def _record(self, offer: PlanRow, name: str) -> tuple[Random, Json]:
        """Return the fields common to all instances. The draws depend only on seed, kind, name and count."""
        key = (offer.kind, name)
        nth = self._namesakes[key] = self._namesakes.get(key, 0) + 1
        rng = Random(f"{self.seed}/{offer.kind}/{name}/{nth}")
        instance_id = str(UUID(int=rng.getrandbits(128), version=4))
        now = self.timeline.now
        return rng, {
            "id": instance_id,
            "name": name,
            "offer": offer,
            "created_at": now,
            "updated_at": now,
            "bill": Bill(instance_id, offer.hourly, offer.upfront_hours),
            "rng": rng,
        }

    def _provision(self, instance: Instance) -> float:
        """Charge, decide whether the provisioning fails, and return its duration in seconds."""
        now = self.timeline.now
        self._add(instance)
        self._live[instance.id] = instance
        self.account.open(instance.bill, now)
        if not self._billing_due:
            self._billing_due = True
            self.timeline.at(self.calendar.next_hour(now), self._clock_hour)
        delays = self.profile.provisioning
        factor = delays.draw(instance.rng)
        unlucky = instance.rng.random() < delays.failure_rate
        if self.failing_next:
            self.failing_next -= 1
            unlucky = True
        if unlucky and instance.failure is None:
            # With restarts, a bad image does not make the provisioning fail (docs/fidelity.md: pull-fails).
            reasons = ("capacity",) if self.profile.restarts else ("pull", "crash")
            instance.failure = instance.rng.choice(reasons)
        is_machine = instance.kind != "container"
        seconds = factor * delays.median_of(machine=is_machine, fails=instance.failure is not None)
        self.timeline.at(now + seconds, lambda at: self._provisioned(instance, delays, at))
        return seconds

    def _add(self, instance: Instance) -> None:
        self.instances[instance.id] = instance
        self._by_kind[instance.kind].append(instance)

    # Later changes

    def _provisioned(self, instance: Instance, delays: Provisioning, at: float) -> None:
        if instance.state is not State.INITIALIZED:
            return
        if instance.failure is not None:
            self._fail(instance, at)
            return
        instance.state = State.ACTIVE
        instance.active_at = at
        self.touch(instance, at)
        if isinstance(instance, ContainerInstance):
            self.begin(instance, delays, at)
        elif isinstance(instance, MachineInstance) and self.profile.machine_address == "active":
            instance.has_address = True

    def _addressed(self, instance: MachineInstance) -> None:
        instance.has_address = True
        instance.summary = None

    def _clock_hour(self, at: float) -> None:
        for instance in self.live():
            if self.account.next_hour(instance.bill, at):
                self._top_up_later(instance, at)
            elif instance.state is State.ACTIVE:
                self.end(instance, at)
            else:
                instance.failure = "the account cannot pay"
                self._fail(instance, at)
        self._billing_due = bool(self._live)
        if self._billing_due:
            self.timeline.at(self.calendar.next_hour(at), self._clock_hour)

    def _top_up_later(self, instance: Instance, at: float) -> None:
        if not self.profile.top_up_delay:
            self.account.top_up(instance.bill, at)
            return

        def top_up(when: float) -> None:
            if instance.live:
                self.account.top_up(instance.bill, when)

        self.timeline.at(at + self.profile.top_up_delay, top_up)

    def _fail(self, instance: Instance, at: float) -> None:
        instance.state = State.FAILED
        del self._live[instance.id]
        self.account.cancel(instance.bill, at)
        if isinstance(instance, ContainerInstance) and instance.failure == "crash":
            for line in CRASH_LINES:
                instance.log.pod.print(line, at)
        self.touch(instance, at)

    def end(self, instance: Instance, at: float) -> None:
        """End an instance and refund its reserve."""
        instance.state = State.ENDED
        del self._live[instance.id]
        self.account.close(instance.bill, at)
        if isinstance(instance, ContainerInstance):
            instance.started = False
            instance.run += 1
            instance.log.stop(at)
            instance.events = [event for event in instance.events if event.at <= at]
            instance.events += cluster.killed(instance.log.pod.name, at, scaled_down=True)
        self.touch(instance, at)

    def touch(self, instance: Instance, at: float) -> None:
        """Record that something visible in answers has changed."""
        instance.updated_at = at
        instance.summary = None


def _address(rng: Random) -> str:
    return f"203.0.113.{rng.randint(1, 254)}"  # TEST-NET-3, reserved for documentation


def _failing_events(
    instance: ContainerInstance, rng: Random, begin: float, end: float
) -> list[cluster.ClusterEvent]:
    pod, image = instance.log.pod.name, instance.settings.image
    if instance.failure == "pull":
        return cluster.pull_failed(pod, image, begin, end)
    if instance.failure == "crash":
        return cluster.crashed(pod, image, begin, end)
    if instance.failure == "capacity":
        return [cluster.not_scheduled(pod, "0/8 nodes are available: 8 Insufficient nvidia.com/gpu.", begin)]
    return cluster.not_configurable(pod, instance.failure or "unknown", end)
