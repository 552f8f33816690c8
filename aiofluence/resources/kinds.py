"""The table of differences between containers, VMs and bare metal on the wire.

A new kind needs a row here and fields in `models`. No other module in `resources` depends on the kind.
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
    """The endpoints of every kind, as data."""

    deploy: Call
    list: Call
    get: Call
    put: Call
    terminate: Call

    @classmethod
    def under(cls, path: str) -> InstanceCalls:
        """Create the calls below `path`, with the contract's slashes: only containers' path ends with one."""
        one = f"{path.rstrip('/')}/{{id}}"
        return cls(
            deploy=Call("POST", path, retryable=Retryable.NEVER, priority=Priority.DEPLOY),
            list=Call("GET", path, retryable=Retryable.ALWAYS),
            get=Call("GET", one, retryable=Retryable.ALWAYS),
            put=Call("PUT", one, retryable=Retryable.CHECK_FIRST),
            terminate=Call("DELETE", one, retryable=Retryable.CHECK_FIRST, priority=Priority.TERMINATE),
        )


@attrs.frozen
class KindOnWire:
    """The wire format of one kind.

    Attributes:
        calls: endpoints.
        status_field: name of the status in rows and details.
        summary: model of a row of LIST.
        detail: model of the reply to GET.
        omits_kind: True if rows and details do not name the kind. The codec then adds it.
    """

    calls: InstanceCalls
    status_field: str
    summary: type[Summary]
    detail: type[Instance]
    omits_kind: bool


KINDS: Final[Mapping[Kind, KindOnWire]] = {
    Kind.CONTAINER: KindOnWire(
        InstanceCalls.under("/gpu/instances/"), "instance_status", ContainerSummary, Container, False
    ),
    Kind.VM: KindOnWire(InstanceCalls.under("/gpu/instances/vms"), "status", MachineSummary, Machine, True),
    Kind.BAREMETAL: KindOnWire(
        InstanceCalls.under("/gpu/instances/baremetal"), "status", MachineSummary, Machine, True
    ),
}

# Endpoints of containers only.
LOGS: Final = Call(
    "GET", "/gpu/instances/{id}/logs", retryable=Retryable.ALWAYS, max_body=64 * MiB, is_text=True
)
EVENTS: Final = Call("GET", "/gpu/instances/{id}/events", retryable=Retryable.ALWAYS, is_text=True)
