"""Options of a simulator that a test changes at run time: the profile and its parts, programs, stock.

A base class of `Simulator`, not usable alone.
"""

from __future__ import annotations

import attrs

from .events import ClusterOptions
from .plans import Catalog
from .profile import Profile, ProfileName
from .programs import Program
from .timing import Provisioning
from .world import World


class HasOptions:
    """A simulator's options. Changes apply from now on."""

    _world: World

    @property
    def profile(self) -> Profile:
        """Habits of the service. Assign a `Profile`, "likely" or "kind" at any time."""
        return self._world.profile

    @profile.setter
    def profile(self, profile: Profile | ProfileName) -> None:
        self._world.profile = Profile.of(profile)

    @property
    def provisioning(self) -> Provisioning:
        """Durations, a part of the profile. An assigned value applies to later actions."""
        return self.profile.provisioning

    @provisioning.setter
    def provisioning(self, provisioning: Provisioning) -> None:
        self._world.profile = attrs.evolve(self.profile, provisioning=provisioning)

    @property
    def cluster(self) -> ClusterOptions:
        """Options of logs and events, a part of the profile. Assign another value at any time."""
        return self.profile.cluster

    @cluster.setter
    def cluster(self, options: ClusterOptions) -> None:
        self._world.profile = attrs.evolve(self.profile, cluster=options)

    @property
    def programs(self) -> dict[str, Program]:
        """Programs by image, in place of the table in `programs`. Read at each deploy and update."""
        return self._world.programs

    def fail_next_provisioning(self, times: int = 1) -> None:
        """Make the next `times` accepted deploys end FAILED."""
        self._world.failing_next = times

    # Stock

    @property
    def catalog(self) -> Catalog:
        """Plans and images for sale. `catalog.find(...)` returns an offer with its plan id."""
        return self._world.catalog

    @property
    def sold_out(self) -> frozenset[str]:
        """Ids of the plans and options that `sell_out` removed."""
        return frozenset(self._world.taken_off)

    def sell_out(self, plan_id: str) -> None:
        """Remove a plan or option from the lists and refuse to deploy it.

        Raises:
            LookupError: there is no such plan.
        """
        self._known(plan_id)
        self._world.taken_off.add(plan_id)

    def restock(self, plan_id: str) -> None:
        """Undo `sell_out`."""
        self._world.taken_off.discard(plan_id)

    def capacity(self, plan_id: str) -> int | None:
        """Return the number of instances of a plan that may exist at once. None means no limit."""
        return self._world.capacities.get(plan_id, self.profile.capacity)

    def set_capacity(self, plan_id: str, instances: int | None) -> None:
        """Limit the instances of a plan that may exist at once, in place of the profile's `capacity`.

        Raises:
            LookupError: there is no such plan.
        """
        self._known(plan_id)
        self._world.capacities[plan_id] = instances

    def _known(self, plan_id: str) -> None:
        if plan_id not in self.catalog.offers:
            raise LookupError(f"no plan {plan_id}")
