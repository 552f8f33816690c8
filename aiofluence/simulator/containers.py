"""What a test lets running containers do: print, rotate, restart, have an event told of them.

A base class of `Simulator`, and no use without it. All of it happens at the simulator's `now`.
"""

from __future__ import annotations

from typing import Literal

from .events import ClusterEvent, restarted
from .instances import ContainerInstance, Instance
from .world import World


class OperatesContainers:
    """A simulator's verbs for one running container."""

    _world: World

    def get_instance(self, instance_id: str) -> Instance:
        """The simulator's own record of an instance, whatever the `list_lag`.

        Raises:
            LookupError: there is none.
        """
        try:
            return self._world.instances[instance_id]
        except KeyError:
            raise LookupError(f"no instance {instance_id}") from None

    def print(self, instance_id: str, *lines: str, end: Literal["\n", ""] = "\n") -> None:
        """Let a running container print lines; with an empty `end` the last one is still to grow.

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
        """Let a running container's log begin a new file: the lines so far are not shown again.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        self._running(instance_id).log.pod.rotate(self._world.timeline.now)

    def restart(self, instance_id: str) -> None:
        """Let a running container die and start again in its pod: its log begins anew.

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
        """Let the cluster tell an event of a running container; the `object` is its pod by default.

        Raises:
            LookupError: there is no such instance.
            ValueError: it is no container, or it is not running.
        """
        instance = self._running(instance_id)
        about = object or instance.log.pod.name.pod
        instance.events.append(ClusterEvent(self._world.timeline.now, about, type, reason, kind, message))

    def _running(self, instance_id: str) -> ContainerInstance:
        instance = self.get_instance(instance_id)
        if not isinstance(instance, ContainerInstance) or not instance.started:
            raise ValueError(f"{instance_id} is not a running container")
        return instance
