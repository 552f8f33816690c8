"""Small values of the models: kinds, statuses, sizes, ports.

No wire format, no I/O. A value that the service adds after this release is kept unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Final, Self, TypeAlias

import attrs


class OpenEnum(StrEnum):
    """An enum that keeps unknown values, so that a newer service cannot break a running program.

    Differences of case are ignored: one guide writes `SXM`, another `sxm`, and both are the same member.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        folded = value.casefold()
        for member in cls:
            if member.value.casefold() == folded:
                return member
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    @property
    def known(self) -> bool:
        """False when this release does not know the value."""
        return self._name_ in type(self).__members__

    __hash__ = str.__hash__


class Kind(StrEnum):
    """The three kinds of instances. Closed: a fourth kind would need its own endpoints in this library."""

    CONTAINER = "container"
    VM = "vm"
    BAREMETAL = "baremetal"


class Status(OpenEnum):
    """Status of an instance: INITIALIZED, then ACTIVE or FAILED. After ACTIVE, ENDED.

    An unknown status counts as not final.
    """

    INITIALIZED = "INITIALIZED"
    ACTIVE = "ACTIVE"
    FAILED = "FAILED"
    ENDED = "ENDED"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # One guide of the service writes `Initiated` where the others write `INITIALIZED`.
        if isinstance(value, str) and value.casefold() == "initiated":
            return cls("INITIALIZED")
        return super()._missing_(value)

    @property
    def final(self) -> bool:
        """True for FAILED and ENDED: no status follows, and billing has ended."""
        return self in (Status.FAILED, Status.ENDED)


class ContainerStatus(OpenEnum):
    """State of the container's process (an ACTIVE instance may still be NOT_STARTED)."""

    NOT_STARTED = "NOT_STARTED"
    STARTED = "STARTED"


class Interface(OpenEnum):
    """Interface of a GPU."""

    SXM = "SXM"
    PCIE = "PCIE"


class DeploymentType(OpenEnum):
    """Kind of machine that an option deploys."""

    VM = "VM"
    BAREMETAL = "BAREMETAL"


class EventType(OpenEnum):
    """The two event types of Kubernetes."""

    NORMAL = "Normal"
    WARNING = "Warning"


class PortProtocol(OpenEnum):
    """Protocol of an exposed port. HTTP is only available on port 80."""

    TCP = "tcp"
    UDP = "udp"
    HTTP = "http"


_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    "b": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "m", "g", "t"), 1)},
    **{unit + "b": 1000**power for power, unit in enumerate(("k", "m", "g", "t"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("ki", "mi", "gi", "ti"), 1)},
    **{unit + "b": 1024**power for power, unit in enumerate(("ki", "mi", "gi", "ti"), 1)},
}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) *([A-Za-z]*)")
_LARGEST = 2**60
"""Bytes of the largest accepted size: 1 EiB."""


@attrs.frozen(order=True)
class Size:
    """An amount of memory or storage. Sizes are comparable: `plan.gpu_model.vram >= Size.parse("80Gi")`.

    Attributes:
        bytes: the amount in bytes.
    """

    bytes: int

    @classmethod
    def of(cls, count: float, units: str) -> Self:
        """Make a size from `count` and `units` (`Gi`, `GB`, `Ti`, ... in any case).

        Raises:
            ValueError: the unit is unknown, or the size is negative or above 1 EiB.
        """
        factor = _UNITS.get(units.strip().lower())
        if factor is None:
            raise ValueError(f"unknown unit of size {units[:20]!r}")
        if not 0 <= count * factor <= _LARGEST:  # also true for NaN
            raise ValueError("a size is from 0 to 1 EiB")
        return cls(round(count * factor))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a size: `"141Gi"`, `"80 GB"`, `"0.5Ti"`.

        Raises:
            ValueError: `text` is not a number and a known unit, or is above 1 EiB.
        """
        match = _SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"not a size: {text[:40]!r}")
        return cls.of(float(match[1]), match[2])

    @property
    def gib(self) -> float:
        """The amount in GiB (2**30 bytes)."""
        return self.bytes / 2**30

    @property
    def gb(self) -> float:
        """The amount in GB (10**9 bytes)."""
        return self.bytes / 10**9

    def __str__(self) -> str:
        return f"{self.gib:g} GiB"


@attrs.frozen(order=True)
class Port:
    """A port of a container.

    Attributes:
        number: 1 to 65535.
        protocol: tcp, udp, or http (port 80 only).
    """

    number: int
    protocol: PortProtocol = attrs.field(default=PortProtocol.TCP, converter=PortProtocol)

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}"


PortLike: TypeAlias = Port | int | str
_PORT = re.compile(r"\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?(?:\s*/\s*([A-Za-z]+))?\s*")
_MAX_RANGE = 10
"""A container exposes at most ten ports, so a longer range is certainly a typo."""


def ports_from(written: PortLike) -> tuple[Port, ...]:
    """Parse a port: `22`, `"80/http"`, `"53/udp"`, `"5000-5005"`, `Port(22)`.

    Raises:
        ValueError: `written` is not a port, or a range is empty or longer than ten ports.
    """
    if isinstance(written, Port):
        return (written,)
    if isinstance(written, int) and not isinstance(written, bool):
        return (Port(written),)
    match = _PORT.fullmatch(written) if isinstance(written, str) else None
    if match is None:
        shown = repr(written[:40] if isinstance(written, str) else type(written).__name__)
        raise ValueError(f"{shown} is not a port; write 22, '80/http', '53/udp' or '5000-5005'")
    first = int(match[1])
    last = int(match[2] or first)
    protocol = PortProtocol((match[3] or "tcp").lower())
    if last < first:
        raise ValueError(f"port range {written!r} runs backwards")
    if last - first >= _MAX_RANGE:
        raise ValueError(f"port range {written!r} has {last - first + 1} ports; at most 10 are allowed")
    return tuple(Port(number, protocol) for number in range(first, last + 1))


class Environment(Mapping[str, str]):
    """A container's environment variables: an immutable mapping whose repr shows names, but never values.

    It equals a plain dict with the same content.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return self._values == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return f"Environment({', '.join(f'{name}=***' for name in self._values)})"

    def without(self, name: str) -> Environment:
        """Return a copy without `name`."""
        return Environment({key: value for key, value in self._values.items() if key != name})


@attrs.frozen
class GpuModel:
    """A GPU: vendor (`nvidia`), model (`h200`), memory per GPU, and interface."""

    vendor: str
    model: str
    vram: Size
    interface: Interface | None = None


@attrs.frozen
class Supply:
    """The resources of a plan or an instance: virtual CPUs, memory, storage, number of GPUs."""

    vcpu: int
    memory: Size
    storage: Size
    gpu_count: int


def describe_gpu(gpu: GpuModel, count: int = 1) -> str:
    """Describe a GPU: `2 × h200 141 GiB`, without the number if it is 1."""
    return f"{f'{count} × ' if count != 1 else ''}{gpu.model} {gpu.vram}"
