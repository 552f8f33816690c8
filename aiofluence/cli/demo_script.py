"""The acts of the demo: the main work of the library, from the catalogue to the end of the last instance.

All facts about instances come from the client. The simulator only fails one deploy on purpose, counts the
requests and gives the speed of its time. `live` formats the output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import attrs

from .. import (
    Billing,
    Container,
    ContainerSpec,
    ContainerUpdate,
    DefaultImage,
    EventType,
    InstanceFailedError,
    InstanceRef,
    Kind,
    LaunchProgress,
    LaunchState,
    LogLine,
    Machine,
    Offer,
    Session,
    Until,
)
from ..models.instances import Instance, Summary
from ..models.money import exact, total
from ..models.specs import Spec
from ..simulator import SimulatorServer
from .live import Display, LiveRow

_SSH_KEY: Final = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1hZGVVcEZvclRoZURlbW9Pbmx5Tm9ib2R5SGFzSXQ demo@example"
)
_DOOMED: Final = "demo-4"
UPDATE_INTERVAL: Final = 0.25
"""Real seconds between two updates of the display, and between two polls of the waits."""
_HURRY: Final = 6.0
"""Factor by which simulated time speeds up while everything ends."""
_TAIL: Final = 100.0
"""Simulated seconds for which logs are followed."""


class Story:
    """The acts, in order. `play` runs all of them. `give_back` ends the instances of an interrupted run."""

    def __init__(
        self, session: Session, server: SimulatorServer, display: Display, *, run_commands: bool
    ) -> None:
        self._session = session
        self._server = server
        self._display = display
        self._run_commands = run_commands
        self._held: dict[str, InstanceRef] = {}
        """Instances that the demo must end itself. Until the launch hands them over, the session does."""
        self._ready: dict[str, Instance] = {}
        self._failed: dict[str, InstanceFailedError] = {}
        self._took: dict[str, float] = {}
        """Simulated seconds from the order until ready or failed."""
        self._shown: dict[str, str] = {}
        """State of each instance, in the display's words."""

    async def play(self) -> None:
        """Play everything from the catalogue to the summary.

        Raises:
            FluenceError: a call failed for good. From a task group, it is in an ExceptionGroup.
        """
        loop = asyncio.get_running_loop()
        say = self._display.say
        began, since, speed = loop.time(), self._server.now(), self._server.time_scale
        say(f"A simulated Fluence GPU Cloud at {self._server.url}")
        say(f"No key, no cost; nothing leaves this machine. Time there runs {speed:g} times as fast.")
        if self._run_commands:
            say("The containers' commands run as processes of this machine; their output is the logs.")
        container, machine = await self._browse()
        await self._launch(container, machine)
        self._tell_failures()
        first = self._ready["demo-1"]
        assert isinstance(first, Container)
        await self._tail(first)
        await self._tell_events(first)
        await self._update(first)
        cost = await self._terminate(await self._tell_bill())

        seconds = loop.time() - began
        self._display.act("Summary")
        say(f"launched      {len(self._ready)} ready, {len(self._failed)} failed on purpose and refunded")
        say(f"took          {seconds:.1f} s; at the real speed {(self._server.now() - since) / 60:.1f} min")
        say(f"requests      {self._server.simulator.count()}")
        say(f"cost          {_money(cost)} USDC, had it been real")
        say(f"left running  {await count_live(self._session)}")

    def hurry(self) -> None:
        """Speed up simulated time, because the service refuses a machine's DELETE for 20 minutes."""
        self._server.rescale(_HURRY * self._server.time_scale)

    async def give_back(self) -> None:
        """End everything that is still held. After a run without trouble, that is nothing.

        Raises:
            FluenceError: an instance could not be ended. It is in an ExceptionGroup.
        """
        async with asyncio.TaskGroup() as group:
            for name in tuple(self._held):
                group.create_task(self._end(name))

    # The acts

    async def _browse(self) -> tuple[Offer, Offer]:
        """Return the cheapest container plan and the cheapest VM plan."""
        self._display.act("What can be rented, cheapest first")
        offers = await self._session.plans.find()
        containers = [offer for offer in offers if offer.kind is Kind.CONTAINER]
        machines = [offer for offer in offers if offer.kind is Kind.VM]
        self._display.table(
            ("Kind", "GPU", "Memory", "USDC/h", "Upfront", "Where"),
            [
                (
                    str(offer.kind),
                    _gpu(offer),
                    str(offer.gpu_model.vram),
                    _money(offer.hourly),
                    _money(offer.upfront),
                    " ".join(offer.locations),
                )
                for offer in (*containers[:4], *machines[:3])
            ],
            right=(2, 3, 4),
        )
        self._display.say("A deploy takes the upfront hours; the unused ones come back.")
        return containers[0], machines[0]

    async def _launch(self, container: Offer, machine: Offer) -> None:
        self._display.act("Launching four containers and a VM at once")
        images = await self._session.images.list()
        image = next((image for image in images if "pytorch" in image.slug), images[0])
        ordered: list[tuple[Spec, Offer]] = [
            (self._container_spec(image, f"demo-{n}", container.plan_id), container) for n in range(1, 5)
        ]
        ordered.append((machine.to_spec(name="demo-vm", ssh_key=_SSH_KEY), machine))

        # The simulator fails the next deploy that it accepts. This deploy goes first and alone.
        self._server.simulator.fail_next_provisioning()
        doomed = next(spec for spec, _ in ordered if spec.name == _DOOMED)
        assert isinstance(doomed, ContainerSpec)
        self._held[_DOOMED] = await self._session.containers.deploy(doomed)
        self._shown[_DOOMED] = LaunchState.PROVISIONING
        began = self._server.now()
        others = [spec for spec, _ in ordered if spec.name != _DOOMED]
        async with asyncio.TaskGroup() as group:
            work = [
                group.create_task(self._bring_up(others, began)),
                group.create_task(self._see_it_fail(self._held[_DOOMED], began)),
            ]
            with self._display.progress() as update:
                while True:
                    # Checked before the update, so that the last update shows everything as done.
                    settled = all(task.done() for task in work)
                    update(self._rows(ordered, began))
                    if settled:
                        break
                    await asyncio.wait(work, timeout=UPDATE_INTERVAL)

    def _container_spec(self, image: DefaultImage, name: str, plan_id: str) -> ContainerSpec:
        spec = image.to_spec(name=name, plan_id=plan_id, ssh_key=_SSH_KEY)
        # The image's own command needs the image, which this machine does not have.
        return attrs.evolve(spec, startup_command=_command(1)) if self._run_commands else spec

    async def _bring_up(self, specs: Sequence[Spec], began: float) -> None:
        """Deploy all of them, and hold each as soon as it is ready."""
        async with self._session.launch(specs, until=Until.READY, on_progress=self._note) as launch:
            async for outcome in launch:
                if outcome.error is not None:
                    raise outcome.error
                if outcome.instance is not None:
                    self._held[outcome.spec.name] = outcome.instance.ref
                    self._ready[outcome.spec.name] = outcome.instance
                self._took[outcome.spec.name] = self._server.now() - began

    def _note(self, progress: LaunchProgress) -> None:
        self._shown[progress.spec.name] = progress.state

    async def _see_it_fail(self, ref: InstanceRef, began: float) -> None:
        """Wait for the instance that was made to fail. Its failure is part of the demo."""
        try:
            self._ready[ref.name] = await self._session.wait(ref, until=Until.READY)
        except InstanceFailedError as error:
            self._held.pop(ref.name)  # the service has ended it, and refunds its price
            self._failed[ref.name] = error
            self._shown[ref.name] = LaunchState.FAILED
        self._took[ref.name] = self._server.now() - began

    def _rows(self, ordered: Sequence[tuple[Spec, Offer]], began: float) -> list[LiveRow]:
        """Return a row per instance, with the last progress of the launch."""
        age = self._server.now() - began
        rows = []
        for spec, offer in ordered:
            name, note = spec.name, ""
            if name in self._ready:
                note = _address(self._ready[name])
            elif name in self._failed:
                note = "refunded"
            took = self._took.get(name)
            rows.append(
                LiveRow(
                    name,
                    _gpu(offer),
                    self._shown.get(name, LaunchState.QUEUED),
                    age if took is None else took,
                    _money(offer.hourly),
                    note,
                    took is None,
                )
            )
        return rows

    def _tell_failures(self) -> None:
        self._display.act(f"{_DOOMED} was made to fail: the error brings the reason along")
        for error in self._failed.values():
            self._display.say(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            for event in error.events:
                if event.type == EventType.WARNING:
                    self._display.say(f"{event.reason}: {event.message}", aside=True)
            for line in error.logs:
                self._display.say(f"log: {line.text}", aside=True)

    async def _tail(self, container: Container) -> None:
        self._display.act(f"Logs of {container.name}, as they come")
        try:
            async with asyncio.timeout(_TAIL / self._server.time_scale):
                async for item in self._session.tail_logs(container):
                    self._display.say(item.text if isinstance(item, LogLine) else str(item), aside=True)
        except TimeoutError:
            pass  # the tail would continue as long as the container

    async def _tell_events(self, container: Container) -> None:
        self._display.act(f"What the cluster says about {container.name}")
        for event in await self._session.containers.events(container.id):
            self._display.say(f"{event.reason or '-'}: {event.message}", aside=True)

    async def _update(self, container: Container) -> None:
        self._display.act(f"Updating {container.name}: a new command, all else as it was")
        began = self._server.now()
        command = _command(2) if self._run_commands else "python train.py --epochs 3"
        update = ContainerUpdate.from_container(container, startup_command=command)
        updated = await self._session.update_and_wait(container, update)
        took = self._server.now() - began
        self._display.say(f"applied after {took:.0f} s: {updated.container_info.startup_command}")

    async def _tell_bill(self) -> dict[InstanceRef, Billing]:
        """Show the cost of each instance by its own detail, and return the bills."""
        self._display.act("The bill so far, in USDC")
        details = [await self._detail(ref) for ref in self._all_refs()]
        bills = {detail.ref: detail.billing for detail in details}
        rows = [(detail.name, str(detail.status), *_amounts([detail.billing])) for detail in details]
        self._display.table(
            ("Name", "Status", "Per hour", "Spent", "Reserved"),
            [*rows, ("total", "", *_amounts(bills.values()))],
            right=(2, 3, 4),
        )
        return bills

    async def _terminate(self, bills: Mapping[InstanceRef, Billing]) -> Decimal:
        """End everything at once, and return the total cost."""
        self._display.act("Terminating everything at once")
        self._display.say("The service ends a machine only after 20 minutes, so the time runs faster here.")
        self.hurry()
        await self.give_back()
        cost = Decimal(0)
        for ref, bill in bills.items():
            ended = await self._detail(ref)
            cost = total([cost, ended.billing.total_spendings])
            if not bill.reserved_amount:  # the instance had failed and was refunded then
                continue
            refund = total([bill.reserved_amount, ended.billing.reserved_amount.copy_negate()])
            self._display.say(f"{ended.name:<8} {ended.status}, {_money(refund)} USDC refunded")
        return cost

    # Helpers of the acts

    def _all_refs(self) -> list[InstanceRef]:
        failed = [error.ref for error in self._failed.values() if error.ref is not None]
        return sorted((*(one.ref for one in self._ready.values()), *failed), key=lambda ref: ref.name)

    async def _detail(self, ref: InstanceRef) -> Instance:
        if ref.kind is Kind.CONTAINER:
            return await self._session.containers.get(ref.id)
        return await self._session.vms.get(ref.id)

    async def _end(self, name: str) -> None:
        await self._session.terminate_and_wait(self._held[name])
        del self._held[name]


def _command(epoch: int) -> str:
    """Return a command that runs anywhere and prints lines."""
    step = f"step=$((step + 1)); echo epoch {epoch} step $step in process $$; sleep 0.25"
    return f"sh -c 'step=0; while :; do {step}; done'"


async def count_live(session: Session) -> int:
    """Return the number of instances that may still cost money, according to the service's lists."""
    listed: list[Summary] = [*await session.containers.list(), *await session.vms.list()]
    listed += await session.baremetal.list()
    return sum(not row.status.final for row in listed)


def _address(instance: Instance) -> str:
    """Return the address of an instance: its SSH line, or its domain and the port that 22 is forwarded to."""
    if isinstance(instance, Machine):
        return instance.ssh_connection or ""
    network = instance.network
    if network is None:
        return ""
    ports = [port.external_port for port in network.forwarded_ports if port.port == 22]
    return f"{network.domain}:{ports[0]}" if ports else network.domain or ""


def _gpu(offer: Offer) -> str:
    return f"{offer.gpu_count}x {offer.gpu_model.model}"


@exact()
def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _amounts(bills: Iterable[Billing]) -> tuple[str, str, str]:
    """Return the hourly price, spent amount and reserved amount of all bills together."""
    three = [(bill.hourly_usage, bill.total_spendings, bill.reserved_amount) for bill in bills]
    hourly, spent, reserved = (total(column) for column in zip(*three, strict=True))
    return _money(hourly), _money(spent), _money(reserved)
