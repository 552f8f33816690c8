"""What those who really run the containers tell the simulator: where one is, that it ended.

A base class of `Simulator`, and no use without it. It starts nothing: `exec` is who runs processes.
"""

from __future__ import annotations

from collections.abc import Sequence

from .containers import OperatesContainers
from .instances import ContainerInstance, Placement, State


class HostsContainers(OperatesContainers):
    """A simulator's verbs for who runs its containers."""

    def place(self, instance_id: str, host: str, ports: Sequence[int]) -> None:
        """Say where a container can be reached, before it has a network: `ports` in the order of `expose`.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container that is being provisioned, or exposes another number of ports.
        """
        instance = self._fresh(instance_id)
        if len(ports) != len(instance.expose):
            raise ValueError(f"{instance_id} exposes {len(instance.expose)} ports, not {len(ports)}")
        instance.placement = Placement(host, tuple(ports))

    def refuse_room(self, instance_id: str, reason: str) -> None:
        """Let a container that is still being provisioned end FAILED; an event gives the reason.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container that is being provisioned.
        """
        self._world.refuse_room(self._fresh(instance_id), reason)

    def exit(self, instance_id: str, code: int) -> None:
        """Let a running container's process end by itself, at second `now`.

        With the profile's `restarts` it is started again, else the instance has ENDED.

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
