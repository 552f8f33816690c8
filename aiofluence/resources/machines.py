"""VMs and bare-metal machines: the shared verbs, and rename.

Only the name of a machine can be changed. For another configuration, terminate the machine and deploy anew.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from ..http.codec import rename_payload
from ..models.instances import Machine, MachineSummary
from ..models.specs import VMSpec
from .instances import Instances

MachineSpecT = TypeVar("MachineSpecT", bound=VMSpec)


class Machines(Instances[MachineSpecT, MachineSummary, Machine], Generic[MachineSpecT]):
    """The account's VMs, or its bare-metal machines."""

    async def rename(self, id: str, name: str) -> None:
        """Rename the machine. No other field of a machine can be changed.

        Raises:
            SpecError: the service would refuse the name; nothing was sent.
            NotFoundError: the account has no such machine.
            FluenceError: any other failure, as in `aiofluence.errors`.
        """
        endpoints = self._endpoints

        async def is_shown() -> bool:
            return bool(endpoints.detail_of(await endpoints.get(id)).name == name)

        await endpoints.put(id, rename_payload(name), is_shown)
