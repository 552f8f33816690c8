"""Reports about containers that really run: address, failed start, exit.

A base class of `Simulator`, not usable alone. It starts nothing: `local_processes` runs the processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from .containers import OperatesContainers
from .instances import ContainerInstance, Placement, State


class HostsContainers(OperatesContainers):
    """A simulator's methods for the code that runs its containers."""

    def place(self, instance_id: str, host: str, ports: Sequence[int]) -> None:
        """Set the address of a container before it has a network. `ports` has the order of `expose`.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container that is being provisioned, or exposes another number of ports.
        """
        instance = self._fresh(instance_id)
        if len(ports) != len(instance.expose):
            raise ValueError(f"{instance_id} exposes {len(instance.expose)} ports, not {len(ports)}")
        instance.placement = Placement(host, tuple(ports))

    def refuse_room(self, instance_id: str, reason: str) -> None:
        """Make the provisioning of a container end FAILED, with an event that gives the reason.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container that is being provisioned.
        """
        self._world.refuse_room(self._fresh(instance_id), reason)

    def exit(self, instance_id: str, code: int) -> None:
        """End a running container's process by itself, at second `now`.

        With the profile's `restarts`, the container is started again. Otherwise the instance has ENDED.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        self._world.exit(self._running(instance_id), code)

    def _fresh(self, instance_id: str) -> ContainerInstance:
        instance = self.get_instance(instance_id)
        if not isinstance(instance, ContainerInstance) or instance.state is not State.INITIALIZED:
            raise ValueError(f"{instance_id} is not a container that is being provisioned")
        return instance
