"""The table of what differs between containers, VMs and bare metal on the wire.

A new kind is a row here. Its fields are in `models`; nothing else in `resources` asks for the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from ..http.messages import Call, MiB, Priority, Retryable
from ..models.instances import Container, ContainerSummary, Instance, Machine, MachineSummary, Summary
from ..models.values import Kind


@attrs.frozen
class InstanceCalls:
    """The endpoints that every kind has, as data."""

    deploy: Call
    list: Call
    get: Call
    put: Call
    terminate: Call

    @classmethod
    def under(cls, path: str) -> InstanceCalls:
        """The calls below `path`, which is written as in the contract: containers have a trailing slash."""
        one = f"{path.rstrip('/')}/{{id}}"
        return cls(
            deploy=Call("POST", path, retryable=Retryable.NEVER, priority=Priority.DEPLOY),
            list=Call("GET", path, retryable=Retryable.ALWAYS),
            get=Call("GET", one, retryable=Retryable.ALWAYS),
            put=Call("PUT", one, retryable=Retryable.LOOK),
            terminate=Call("DELETE", one, retryable=Retryable.LOOK, priority=Priority.TERMINATE),
        )


@attrs.frozen
class KindOnWire:
    """One kind, as its endpoints show it.

    Attributes:
        calls: endpoints.
        status_field: name of the status in rows and details.
        summary: model of a row of LIST.
        detail: model of the reply to GET.
        is_untold: rows and details do not name the kind; the codec writes it into them.
    """

    calls: InstanceCalls
    status_field: str
    summary: type[Summary]
    detail: type[Instance]
    is_untold: bool


KINDS: Final[Mapping[Kind, KindOnWire]] = {
    Kind.CONTAINER: KindOnWire(
        InstanceCalls.under("/gpu/instances/"), "instance_status", ContainerSummary, Container, False
    ),
    Kind.VM: KindOnWire(InstanceCalls.under("/gpu/instances/vms"), "status", MachineSummary, Machine, True),
    Kind.BAREMETAL: KindOnWire(
        InstanceCalls.under("/gpu/instances/baremetal"), "status", MachineSummary, Machine, True
    ),
}

# Only containers have these.
LOGS: Final = Call(
    "GET", "/gpu/instances/{id}/logs", retryable=Retryable.ALWAYS, max_body=64 * MiB, is_text=True
)
EVENTS: Final = Call("GET", "/gpu/instances/{id}/events", retryable=Retryable.ALWAYS, is_text=True)
