"""The account's instances and what happens to them as simulated time goes by.

Nothing runs by itself: every future happening waits in one queue, and `advance` lets those take
place that are due. Bodies, statuses and HTTP are `service`'s business, prices `billing`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from random import Random
from uuid import UUID

from . import cluster, rules
from .billing import Account, Bill, exact
from .catalog import Catalog, Json, Kind, Offer
from .cluster import ClusterOptions, PodName
from .instances import (
    Calendar,
    ContainerInstance,
    ContainerSettings,
    ExposedPort,
    Instance,
    MachineInstance,
    State,
)
from .podlog import CRASH_LINES, ContainerLog, PodLog
from .timing import Provisioning, Timeline


class World:
    """Every instance the account ever had; ended ones stay for ever."""

    def __init__(
        self,
        *,
        seed: int,
        balance: Decimal,
        catalog: Catalog,
        calendar: Calendar,
        provisioning: Provisioning,
        cluster_options: ClusterOptions,
        list_lag: float = 0.0,
    ) -> None:
        self.catalog = catalog
        self.calendar = calendar
        self.account: Account = Account(balance)
        self.timeline: Timeline = Timeline()
        self.provisioning = provisioning
        self.cluster = cluster_options
        self.sold_out: set[str] = set()
        self.failing_next: int = 0
        self.list_lag = list_lag
        self.instances: dict[str, Instance] = {}
        self.seed = seed
        self._by_kind: dict[Kind, list[Instance]] = {"container": [], "vm": [], "baremetal": []}
        self._live: dict[str, Instance] = {}
        self._namesakes: dict[tuple[Kind, str], int] = {}
        self._billing_due = False

    # What there is

    def live(self) -> list[Instance]:
        return list(self._live.values())

    def rows(self, kind: Kind) -> Iterator[Instance]:
        """Everything of that kind that a LIST shows, oldest first."""
        newest = self.timeline.now - self.list_lag
        return (i for i in self._by_kind[kind] if not self.list_lag or i.created_at <= newest)

    def get(self, kind: Kind, instance_id: str) -> Instance:
        """An instance by its id.

        Raises:
            RefusedError: 404, also while the `list_lag` lasts.
        """
        found = self.instances.get(instance_id)
        unseen = found and self.list_lag and self.timeline.now < found.created_at + self.list_lag
        if found is None or found.kind != kind or unseen:
            rules.refuse(rules.NOT_FOUND, 404)
        return found

    def container(self, instance_id: str) -> ContainerInstance:
        """A container by its id.

        Raises:
            RefusedError: 404.
        """
        found = self.get("container", instance_id)
        assert isinstance(found, ContainerInstance)
        return found

    # What a request does

    def deploy_container(self, order: rules.ContainerOrder) -> Instance:
        """Take the money and begin to provision.

        Raises:
            RefusedError: 400.
        """
        offer = self._on_sale("container", order.plan_id)
        if order.location is not None and order.location not in offer.locations:
            rules.refuse(f"Plan is not available in location {order.location}")
        rng, record = self._accept(offer, order.name)
        pod = PodName.draw(rng)
        now = self.timeline.now
        location = order.location or rng.choice(offer.locations)
        seed = rng.getrandbits(64)
        instance = ContainerInstance(
            **record,
            location=location,
            settings=order.settings,
            expose=order.expose,
            log=ContainerLog(PodLog(pod, seed, self.cluster.log_interval), seed),
        )
        if order.reserved_variable:
            instance.failure = "environment variable SSH_PUBKEY is defined twice"
        ready = now + self._provision(instance)
        begin = now + (ready - now) / 2
        instance.events += cluster.scheduled(pod, order.settings.image, begin)
        if instance.failure is None:
            started = ready + self.provisioning.start_delay
            instance.events += cluster.running(pod, order.settings.image, ready, started)
        else:
            instance.events += _failing_events(instance, rng, begin, ready)
        return instance

    def deploy_machine(self, kind: Kind, order: rules.MachineOrder) -> Instance:
        """Take the money and begin to provision.

        Raises:
            RefusedError: 400.
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
        self._provision(instance)
        return instance

    def update(self, instance: ContainerInstance, change: rules.ContainerChange) -> None:
        """Begin to apply an update; until it is done the old configuration runs and is shown.

        Raises:
            RefusedError: 400.
        """
        if instance.state is not State.ACTIVE:
            rules.refuse(rules.NOT_UPDATABLE)
        if instance.updating:
            rules.refuse(rules.UPDATING)
        instance.updating = True
        done = self.timeline.now + self.provisioning.update_delay
        self.timeline.at(done, lambda at: self._updated(instance, change, at))

    def rename(self, instance: Instance, name: str) -> None:
        """Rename a machine, at once.

        Raises:
            RefusedError: 400.
        """
        if not instance.live:
            rules.refuse(rules.NOT_UPDATABLE)
        instance.name = name
        self._touch(instance, self.timeline.now)

    def terminate(self, instance: Instance) -> None:
        """End an instance and refund its reserve, at once.

        Raises:
            RefusedError: 400.
        """
        if instance.state is not State.ACTIVE:
            rules.refuse(rules.NOT_ACTIVE)
        self._end(instance, self.timeline.now)

    def refuse_room(self, instance: ContainerInstance, reason: str) -> None:
        """Let a container that is still being provisioned end FAILED, with an event that says why."""
        now = self.timeline.now
        instance.failure = reason
        instance.events = [event for event in instance.events if event.at <= now]
        instance.events.append(cluster.not_scheduled(instance.log.pod.name, reason, now))

    def exit(self, instance: ContainerInstance, code: int) -> None:
        """A container's process has ended by itself, and the instance with it."""
        now = self.timeline.now
        instance.events.append(cluster.exited(instance.log.pod.name, code, now))
        self._end(instance, now)

    def add_ended(self, offer: Offer, name: str) -> Instance:
        """An instance of long ago, at no cost: history for the lists. Its details are made up."""
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

    def _on_sale(self, kind: Kind, plan_id: str) -> Offer:
        offer = self.catalog.offers.get(plan_id)
        if offer is None or offer.kind != kind or plan_id in self.sold_out:
            rules.refuse(rules.PLAN_GONE)
        return offer

    def _accept(self, offer: Offer, name: str) -> tuple[Random, Json]:
        with exact():
            upfront = offer.hourly * offer.upfront_hours
        if self.account.balance < upfront:
            rules.refuse(rules.NO_BALANCE)
        return self._record(offer, name)

    def _record(self, offer: Offer, name: str) -> tuple[Random, Json]:
        """The fields every instance has. Its draws depend on the seed and on its own name alone."""
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
        """Charge, decide the instance's fate, and return the seconds until it comes."""
        now = self.timeline.now
        self._add(instance)
        self._live[instance.id] = instance
        self.account.open(instance.bill, now)
        if not self._billing_due:
            self._billing_due = True
            self.timeline.at(self.calendar.next_hour(now), self._clock_hour)
        delays = self.provisioning
        seconds = delays.draw(instance.rng)
        unlucky = instance.rng.random() < delays.failure_rate
        if self.failing_next:
            self.failing_next -= 1
            unlucky = True
        if unlucky and instance.failure is None:
            instance.failure = instance.rng.choice(("pull", "crash"))
        self.timeline.at(now + seconds, lambda at: self._provisioned(instance, delays, at))
        return seconds

    def _add(self, instance: Instance) -> None:
        self.instances[instance.id] = instance
        self._by_kind[instance.kind].append(instance)

    # What happens later

    def _provisioned(self, instance: Instance, delays: Provisioning, at: float) -> None:
        if instance.state is not State.INITIALIZED:
            return
        if instance.failure is not None:
            self._fail(instance, at)
            return
        instance.state = State.ACTIVE
        self._touch(instance, at)
        if isinstance(instance, ContainerInstance):
            network = at + delays.network_delay
            self.timeline.at(at + delays.start_delay, lambda when: self._started(instance, when))
            self.timeline.at(network, lambda when: self._networked(instance, when))
            self.timeline.at(network + delays.domain_delay, lambda when: self._named(instance, when))

    def _started(self, instance: ContainerInstance, at: float) -> None:
        if instance.state is State.ACTIVE:
            instance.started = True
            instance.log.start(at)
            self._touch(instance, at)

    def _networked(self, instance: ContainerInstance, at: float) -> None:
        if instance.state is State.ACTIVE:
            outside = instance.rng.sample(range(30000, 32768), len(instance.expose))
            if instance.placement is not None:
                outside = list(instance.placement.ports)
            instance.forwarded_ports = [
                {"port": port.port, "external_port": str(number), "protocol": port.protocol}
                for port, number in zip(instance.expose, outside, strict=True)
                if port.protocol != "http"  # that one is behind `uri`
            ]
            self._touch(instance, at)

    def _named(self, instance: ContainerInstance, at: float) -> None:
        if instance.state is State.ACTIVE:
            place = instance.placement
            instance.domain = place.host if place else f"provider-{instance.rng.randint(1, 40)}.gpu.example"
            self._touch(instance, at)

    def _updated(self, instance: ContainerInstance, change: rules.ContainerChange, at: float) -> None:
        if instance.state is not State.ACTIVE:
            return
        instance.updating = False
        instance.name = change.name
        instance.settings = change.settings
        old = instance.log.pod.name
        pod = PodName.draw(instance.rng)
        new = PodLog(pod, instance.rng.getrandbits(64), self.cluster.log_interval)
        instance.log.swap(new, at, self.cluster.pod_linger)
        image = change.settings.image
        instance.events += cluster.killed(old, at, scaled_down=False)
        instance.events += cluster.scheduled(pod, image, at)
        instance.events += cluster.running(pod, image, at + 1.5, at + 2.0)
        if instance.started:
            instance.log.start(at)
        self._touch(instance, at)

    def _clock_hour(self, at: float) -> None:
        for instance in self.live():
            if self.account.next_hour(instance.bill, at):
                continue
            if instance.state is State.ACTIVE:
                self._end(instance, at)
            else:
                instance.failure = "the account cannot pay"
                self._fail(instance, at)
        self._billing_due = bool(self._live)
        if self._billing_due:
            self.timeline.at(self.calendar.next_hour(at), self._clock_hour)

    def _fail(self, instance: Instance, at: float) -> None:
        instance.state = State.FAILED
        del self._live[instance.id]
        self.account.cancel(instance.bill, at)
        if isinstance(instance, ContainerInstance) and instance.failure == "crash":
            for line in CRASH_LINES:
                instance.log.pod.print(line, at)
        self._touch(instance, at)

    def _end(self, instance: Instance, at: float) -> None:
        instance.state = State.ENDED
        del self._live[instance.id]
        self.account.close(instance.bill, at)
        if isinstance(instance, ContainerInstance):
            instance.started = False
            instance.log.stop(at)
            instance.events = [event for event in instance.events if event.at <= at]
            instance.events += cluster.killed(instance.log.pod.name, at, scaled_down=True)
        self._touch(instance, at)

    def _touch(self, instance: Instance, at: float) -> None:
        instance.updated_at = at
        instance.summary = None


def _address(rng: Random) -> str:
    return f"203.0.113.{rng.randint(1, 254)}"  # a block that is reserved for documentation


def _failing_events(
    instance: ContainerInstance, rng: Random, begin: float, end: float
) -> list[cluster.ClusterEvent]:
    pod, image = instance.log.pod.name, instance.settings.image
    if instance.failure == "pull":
        return cluster.pull_failed(pod, image, begin, end)
    if instance.failure == "crash":
        return cluster.crashed(pod, image, begin, end)
    return cluster.not_configurable(pod, instance.failure or "unknown", end)
