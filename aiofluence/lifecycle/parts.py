"""The parts of a session that deploy, wait and end: journal, waits, custody and deploys, one of each.

`Runtime` creates them with their first use. A program that only reads loads none of their modules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ..background import BackgroundTasks
from ..http.transport import Transport
from ..models.values import Kind
from ..polling.evidence import Evidence
from ..polling.options import Poll
from ..polling.poller import Poller
from ..resources.catalogue import Catalogue
from ..resources.endpoints import Endpoints
from ..resources.plans import Plans
from .custody import Custodian
from .deploy import Deployer
from .instance import InstanceLifecycle
from .journal import Journal
from .options import DeployPolicy
from .wait import Waiter


class Lifecycle:
    """The parts of one session, which its views share."""

    def __init__(
        self,
        origin: str,
        journal: str | os.PathLike[str] | None,
        transport: Transport,
        poll: Poll,
        policy: DeployPolicy,
        tasks: BackgroundTasks,
        evidence: Evidence,
    ) -> None:
        self._tasks = tasks
        self._clock = transport.clock
        self.journal: Final = Journal(journal, origin, transport.headers.credential)
        tasks.on_work = self.journal.be_at_work
        evidence.on_over(self.journal.is_over)
        pollers = {kind: Poller(Endpoints(transport, kind), poll, tasks, evidence) for kind in Kind}
        self._waiter = Waiter(pollers, poll, tasks)
        self.custodian: Final = Custodian(tasks, self._waiter, self.journal, evidence)
        catalogue = Catalogue(Plans(transport), poll.pace)
        self.deployer: Final = Deployer(
            tasks, self.custodian, self.journal, transport, policy, evidence, catalogue
        )

    def of(self, resources: Mapping[Kind, Endpoints]) -> InstanceLifecycle:
        """Return the verbs for single instances, over the endpoints of one view."""
        return InstanceLifecycle(
            resources, self.deployer, self._waiter, self.custodian, self._tasks, self._clock
        )

    async def drain(self, timeout: float) -> None:
        """Wait until nothing is in custody, then end every other wait. See `Custodian.drain`."""
        try:
            await self.custodian.drain(timeout)
        finally:
            self._waiter.close()
