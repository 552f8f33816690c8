"""VMs and bare-metal machines: the same endpoints under two paths. The shared verbs, and rename.

Nothing else of a machine can be changed: for another configuration terminate it and deploy anew.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from ..http.codec import rename_payload, structure
from ..http.messages import Answer
from ..http.transport import Transport
from ..models.instances import Machine, MachineSummary
from ..models.specs import VMSpec
from ..models.values import Kind
from .instances import ExactlyOnce, InstanceCalls, Instances

CALLS: Final = {
    Kind.VM: InstanceCalls.under("/gpu/instances/vms"),
    Kind.BAREMETAL: InstanceCalls.under("/gpu/instances/baremetal"),
}

MachineSpecT = TypeVar("MachineSpecT", bound=VMSpec)


class Machines(Instances[MachineSpecT, MachineSummary, Machine], Generic[MachineSpecT]):
    """The account's VMs, or its bare-metal machines."""

    _summary = MachineSummary

    def __init__(self, transport: Transport, exactly_once: ExactlyOnce, kind: Kind) -> None:
        super().__init__(transport, exactly_once)
        self.kind: Kind = kind
        self._under = kind
        self.calls: InstanceCalls = CALLS[kind]

    async def rename(self, id: str, name: str) -> None:
        """Give the machine another name; nothing else of it can be changed.

        Raises:
            SpecError: the service would refuse the name; nothing was sent.
            NotFoundError: the account has no such machine.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """

        async def shown() -> bool:
            return (await self.look_at(id)).name == name

        await self._settle(self.calls.put.to(id, body=rename_payload(name)), shown)

    def _detail(self, answer: Answer) -> Machine:
        return structure(answer, Machine, under=self.kind)
