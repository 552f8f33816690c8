"""The table of a running launch: state, age and price of each instance, and the time left.

It turns the progress of a launch into rows. `live` formats the rows.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final

import aiofluence

from ..models.instances import Container, Instance
from ..models.plans import Offer
from ..models.ssh import ssh_access
from .batch_file import Item
from .live import LiveRow

_WORDS: Final[Mapping[str, str]] = {"terminated": "given up and being ended"}
"""States with another display text, as in `ProgressDisplay`: a launch does not see the end."""

_OF_SERVICE: Final[Mapping[str, str]] = {
    "posting": "deploying",
    "provisioning": "INITIALIZED",
    "active": "ACTIVE",
}
"""The service's status of an instance, by the state in which it was given up. It lasts until the DELETE."""

NO_ADDRESS: Final = "no address yet"
_BUSY: Final = ("queued", "posting", "provisioning")


class LaunchTable:
    """The current state of each instance of a launch. Create it inside a running event loop."""

    def __init__(self, items: Sequence[Item], offers: Iterable[Offer] = ()) -> None:
        self._names = [item.spec.name for item in items]
        self._shown = [item.offer for item in items]
        self._offers = {(offer.kind, offer.plan_id): offer for offer in offers}
        self._states: list[str] = ["queued"] * len(items)
        self._given_up = [""] * len(items)
        self._notes = [""] * len(items)
        self._began: list[float | None] = [None] * len(items)
        self._settled: list[float | None] = [None] * len(items)
        self._estimate: Callable[[], aiofluence.Eta] | None = None
        self._counts: Mapping[str, int] = {}
        self.begun: Final = asyncio.Event()
        """Set by the first progress of the launch."""
        self.refs: dict[str, aiofluence.InstanceRef] = {}
        """Refs of the instances that have an id, by name."""

    def note(self, progress: aiofluence.LaunchProgress) -> None:
        """Note a progress of one instance."""
        self.begun.set()
        now, index = _now(), progress.index
        self._given_up[index] = _OF_SERVICE.get(self._states[index], "unknown")
        self._states[index] = progress.state.value
        self._counts = progress.counts
        self._estimate = progress.estimate
        if progress.ref is not None:
            self.refs[progress.spec.name] = progress.ref
        # A fallback changes the plan, and so the offer.
        plan = progress.spec.kind, progress.spec.plan_id
        self._shown[index] = self._offers.get(plan, self._shown[index])
        if progress.state.value != "queued" and self._began[index] is None:
            self._began[index] = now
        if progress.state.value not in _BUSY:
            self._settled[index] = now
            notes = []
            if progress.state.value == "terminated":
                notes.append("ending")
            if progress.error is not None:
                notes.append(f"{type(progress.error).__name__}: {progress.error}".splitlines()[0])
            elif progress.instance is not None and not notes:
                notes.append(_reached_at(progress.instance))
            self._notes[index] = ": ".join(notes)

    def rows(self) -> list[LiveRow]:
        """Return a row for each instance, with its current state."""
        now = _now()
        late = self._estimate().late if self._estimate else ()
        rows = []
        for index, (name, offer) in enumerate(zip(self._names, self._shown, strict=True)):
            began, settled = self._began[index], self._settled[index]
            busy = self._states[index] in _BUSY
            rows.append(
                LiveRow(
                    name,
                    f"{offer.gpu_count}x {offer.gpu_model.model}",
                    self._status(index),
                    0.0 if began is None else (settled or now) - began,
                    f"{offer.hourly:f}",
                    "late" if busy and index in late else self._notes[index],
                    busy=busy,
                )
            )
        return rows

    def _status(self, index: int) -> str:
        """Return the state of an instance; once it is given up, its status, which decides the bill."""
        state = self._states[index]
        return self._given_up[index] if state == "terminated" else state

    def title(self) -> str:
        """Return the title: `8 provisioning, 12 active, about 1:40 min to go (0:50 to 3:10)`."""
        counts = [f"{count} {_WORDS.get(state, state)}" for state, count in self._counts.items() if count]
        busy = any(self._counts.get(state) for state in _BUSY)
        return ", ".join([*counts, *([str(self._estimate())] if busy and self._estimate else [])])


def summary(report: aiofluence.Report) -> list[str]:
    """Return the result of a launch in a few lines."""
    cost: Decimal = report.hourly_cost
    counts = str(report).replace("terminated", _WORDS["terminated"])
    least = report.least_cost
    lines = [f"{counts}: {cost:f} USDC an hour" + (f", at least {least:f} in all" if least > cost else "")]
    for outcome in report.outcomes:
        if outcome.error is not None:
            first = str(outcome.error).splitlines()[0]
            state = _WORDS.get(outcome.status.value, outcome.status)
            lines.append(f"{outcome.spec.name}: {state}, {type(outcome.error).__name__}: {first}")
    return [*lines, *(f"{one.name}: {_reached_at(one) or NO_ADDRESS}" for one in report.instances)]


def _reached_at(instance: Instance) -> str:
    """Return the command to log in, else the web address, else the first port; empty if there is none."""
    access = ssh_access(instance)
    if access is not None:
        return shlex.join(access.command)
    network = instance.network if isinstance(instance, Container) else None
    if network is None:
        return ""
    ports = [f"{network.domain}:{port.external_port}" for port in network.forwarded_ports if network.domain]
    return network.uri or next(iter(ports), "")


def _now() -> float:
    return asyncio.get_running_loop().time()
