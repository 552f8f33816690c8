"""Actions on containers: those of a test (print, rotate, restart, an event), and those of their host.

A base class of `Simulator`, not usable alone. Every action happens at the simulator's `now`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .events import ClusterEvent, restarted
from .instances import ContainerInstance, Instance, Placement, State
from .world import World


class OperatesContainers:
    """A simulator's actions on one container."""

    _world: World

    def get_instance(self, instance_id: str) -> Instance:
        """Return the simulator's own record of an instance, regardless of the `list_lag`.

        Raises:
            LookupError: there is no such instance.
        """
        try:
            return self._world.instances[instance_id]
        except KeyError:
            raise LookupError(f"no instance {instance_id}") from None

    def print(self, instance_id: str, *lines: str, end: Literal["\n", ""] = "\n") -> None:
        """Make a running container print lines. An empty `end` leaves the last line unfinished.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        pod = self._running(instance_id).log.pod
        for line in lines[:-1]:
            pod.print(line, self._world.timeline.now)
        for line in lines[-1:]:
            pod.print(line, self._world.timeline.now, end)

    def rotate(self, instance_id: str) -> None:
        """Begin a new log file for a running container. Answers no longer show the earlier lines.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        self._running(instance_id).log.pod.rotate(self._world.timeline.now)

    def restart(self, instance_id: str) -> None:
        """Make a running container die and start again in its pod, with an empty log.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        instance = self._running(instance_id)
        instance.log.pod.restart(self._world.timeline.now)
        instance.events += restarted(instance.log.pod.name, instance.settings.image, self._world.timeline.now)

    def add_event(
        self,
        instance_id: str,
        reason: str,
        message: str,
        *,
        type: str = "Normal",
        kind: str = "Pod",
        object: str | None = None,
    ) -> None:
        """Add a cluster event of a running container. `object` defaults to the container's pod.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        instance = self._running(instance_id)
        about = object or instance.log.pod.name.pod
        instance.events.append(ClusterEvent(self._world.timeline.now, about, type, reason, kind, message))

    # For the code that really runs the containers

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

    def _running(self, instance_id: str) -> ContainerInstance:
        instance = self.get_instance(instance_id)
        if not isinstance(instance, ContainerInstance) or not instance.started:
            raise ValueError(f"{instance_id} is not a running container")
        return instance

    def _fresh(self, instance_id: str) -> ContainerInstance:
        instance = self.get_instance(instance_id)
        if not isinstance(instance, ContainerInstance) or instance.state is not State.INITIALIZED:
            raise ValueError(f"{instance_id} is not a container that is being provisioned")
        return instance
