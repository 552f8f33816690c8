"""Life of ACTIVE containers: start, network, restart, update, and the closed lease.

A base class of `World`, not usable alone. The profile selects the habits of the cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from . import events as cluster, validation as rules
from .events import PodName
from .instances import ContainerInstance, ContainerSettings, Instance, State
from .logs import PodLog
from .profile import Profile
from .programs import Program, program
from .timing import Provisioning, Schedule

_FIRST_BACKOFF: Final = 10.0
_LONGEST_BACKOFF: Final = 300.0
"""Longest wait of a kubelet before it starts a container again, in seconds."""
_RAN_LONG: Final = 600.0
"""Length of a run after which a kubelet forgets earlier exits, in seconds."""
_SOUND: Final = 20.0
"""Length of a run after which a check has certainly seen the container available, in seconds.

This is the longest time between two checks.
"""


class RunsContainers(ABC):
    """Actions of the cluster on containers."""

    profile: Profile
    timeline: Schedule
    programs: dict[str, Program]

    @abstractmethod
    def end(self, instance: Instance, at: float) -> None:
        """End an instance and refund its reserve."""

    @abstractmethod
    def touch(self, instance: Instance, at: float) -> None:
        """Record that something visible in answers has changed."""

    def exit(self, instance: ContainerInstance, code: int) -> None:
        """End a container's process by itself, at the present moment."""
        self._exited(instance, code, self.timeline.now)

    # After ACTIVE

    def begin(self, instance: ContainerInstance, delays: Provisioning, at: float) -> None:
        """Plan the first run and the network of a container that has become ACTIVE."""
        network = at + delays.network_delay
        run = instance.run
        self.timeline.at(at + delays.start_delay, lambda when: self._start(instance, run, when))
        self.timeline.at(network, lambda when: self._networked(instance, when))
        self.timeline.at(network + delays.domain_delay, lambda when: self._named(instance, when))

    def program_of(self, settings: ContainerSettings) -> Program:
        """Return the program of the image and the command, from the test's script or the table."""
        by_table = self.profile.images_exit
        return program(settings.image, settings.startup_command, self.programs, images_exit=by_table)

    def new_pod(self, name: PodName, seed: int, does: Program) -> PodLog:
        """Return the log of a new pod. Only programs that stay print generated lines."""
        is_training = does.seconds is None and does.output is None
        return PodLog(name, seed, self.profile.cluster.log_interval if is_training else None)

    def _networked(self, instance: ContainerInstance, at: float) -> None:
        if instance.state is State.ACTIVE:
            outside = instance.rng.sample(range(30000, 32768), len(instance.expose))
            if instance.placement is not None:
                outside = list(instance.placement.ports)
            instance.forwarded_ports = [
                {"port": port.port, "external_port": str(number), "protocol": port.protocol}
                for port, number in zip(instance.expose, outside, strict=True)
                if port.protocol != "http"  # `uri` leads to the http port
            ]
            self.touch(instance, at)

    def _named(self, instance: ContainerInstance, at: float) -> None:
        if instance.state is State.ACTIVE:
            place = instance.placement
            instance.domain = place.host if place else f"provider-{instance.rng.randint(1, 40)}.gpu.example"
            self.touch(instance, at)

    # Runs

    def _start(self, instance: ContainerInstance, run: int, at: float) -> None:
        """Start the container's program, unless a newer run has replaced the planned one."""
        if instance.state is not State.ACTIVE or instance.run != run:
            return
        settings, does = instance.settings, instance.program
        if instance.placement is not None and settings.startup_command is not None:
            does = Program()  # a real process, whose exit `local_processes` reports
        if not does.pullable:
            instance.events += cluster.pull_refused(instance.log.pod.name, settings.image, at)
            self._down(instance, at)
            return
        instance.started = True
        instance.run_since = at
        pod = instance.log.pod
        pod.start(at)
        for line in does.lines:
            pod.print(line, at)
        if does.output is not None:
            pod.print(does.output, at, end="")
        self.touch(instance, at)
        if does.seconds is not None:
            self.timeline.at(
                at + does.seconds, lambda when: self._exit_of_run(instance, run, does.code, when)
            )
        if instance.down_since is not None:
            self.timeline.at(at + _SOUND, lambda when: self._is_sound(instance, run))

    def _exit_of_run(self, instance: ContainerInstance, run: int, code: int, at: float) -> None:
        if instance.started and instance.run == run:
            self._exited(instance, code, at)

    def _is_sound(self, instance: ContainerInstance, run: int) -> None:
        if instance.started and instance.run == run:
            instance.down_since = None

    def _exited(self, instance: ContainerInstance, code: int, at: float) -> None:
        pod = instance.log.pod
        if not self.profile.restarts:
            instance.events.append(cluster.exited(pod.name, code, at))
            self.end(instance, at)
            return
        if at - instance.run_since > _RAN_LONG:
            instance.backoffs = 0
        wait = 1.0  # no backoff before the first restart
        if instance.backoffs:
            wait = min(_FIRST_BACKOFF * 2 ** (instance.backoffs - 1), _LONGEST_BACKOFF)
            instance.events.append(cluster.backed_off(pod.name, at))
        instance.backoffs += 1
        pod.pause(at)
        run = self._stop(instance, at)
        self._down(instance, at)
        self.timeline.at(at + wait, lambda when: self._restart(instance, run, when))

    def _restart(self, instance: ContainerInstance, run: int, at: float) -> None:
        if instance.state is State.ACTIVE and instance.run == run:
            pod = instance.log.pod
            pod.restart(at)
            instance.events += cluster.restarted(pod.name, instance.settings.image, at)
            self._start(instance, run, at)

    def _stop(self, instance: ContainerInstance, at: float) -> int:
        """Stop the present run, if any. Return the number of the next run."""
        instance.started = False
        instance.run += 1
        self.touch(instance, at)
        return instance.run

    # Unavailable containers

    def _down(self, instance: ContainerInstance, at: float) -> None:
        """Count the checks that a container fails. After the last, the provider closes the lease."""
        if instance.down_since is not None:
            return
        instance.down_since = at
        if self.profile.lease_checks is not None:
            patience = sum(instance.rng.uniform(4.0, 19.0) for _ in range(self.profile.lease_checks))
            self.timeline.at(at + patience, lambda when: self._give_up(instance, at, when))

    def _give_up(self, instance: ContainerInstance, since: float, at: float) -> None:
        if instance.state is State.ACTIVE and instance.down_since == since:
            self.end(instance, at)

    # Updates

    def update(self, instance: ContainerInstance, change: rules.ContainerChange) -> None:
        """Begin to apply an update. Answers show the old configuration until the end.

        Raises:
            RequestRefusedError: 400.
        """
        if instance.state is not State.ACTIVE:
            rules.refuse(rules.NOT_UPDATABLE)
        if instance.updating:
            rules.refuse(rules.UPDATING)
        instance.updating = True
        now = self.timeline.now
        early = self.profile.update_downtime
        if early:
            self._replace(instance, change.settings, now)
        done = now + self.profile.provisioning.update_delay
        self.timeline.at(done, lambda at: self._updated(instance, change, at, is_down=early))

    def _replace(self, instance: ContainerInstance, settings: ContainerSettings, at: float) -> None:
        """Stop the present pod and begin to create the next."""
        self._stop(instance, at)
        old, name = instance.log.pod.name, PodName.draw(instance.rng)
        seed = instance.rng.getrandbits(64)
        instance.program = self.program_of(settings)
        instance.log.swap(self.new_pod(name, seed, instance.program), at, self.profile.cluster.pod_linger)
        instance.events = [event for event in instance.events if event.at <= at]
        instance.events += cluster.killed(old, at, scaled_down=False)
        instance.events += cluster.scheduled(name, settings.image, at)
        instance.pod_since = at
        instance.backoffs = 0
        instance.down_since = None

    def _updated(
        self, instance: ContainerInstance, change: rules.ContainerChange, at: float, *, is_down: bool
    ) -> None:
        if instance.state is not State.ACTIVE:
            return
        instance.updating = False
        instance.name = change.name
        instance.settings = change.settings
        pulled, started = (at, at) if is_down else (at + 1.5, at + 2.0)
        if not is_down:
            self._replace(instance, change.settings, at)
        if instance.program.pullable:
            image = change.settings.image
            instance.events += cluster.running(instance.log.pod.name, image, pulled, started)
        self._start(instance, instance.run, at)
        self.touch(instance, at)
