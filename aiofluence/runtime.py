"""State that a session and its `with_options` views share: pool, rate limiter, tasks, custody, journal.

`Runtime` creates, opens and closes these parts. It contains no other logic.
"""

from __future__ import annotations

from functools import partial

import attrs

from .background import BackgroundTasks
from .errors import ConfigError
from .http.transport import Transport
from .lifecycle.custody import Custodian
from .lifecycle.deploy import Deployer
from .lifecycle.deploy_attempt import DeployPolicy
from .lifecycle.journal import Journal
from .lifecycle.wait import Waiter
from .models.values import Kind
from .polling.evidence import GRACE, Evidence
from .polling.poller import Poller
from .polling.schedule import Poll
from .resources.catalogue import Catalogue
from .resources.endpoints import Endpoints
from .resources.plans import Plans


@attrs.define
class Runtime:
    """Shared state of one session and its views."""

    origin: str
    transport: Transport
    poll: Poll
    tasks: BackgroundTasks
    journal: Journal
    waiter: Waiter
    custodian: Custodian
    deployer: Deployer
    close_timeout: float
    evidence: Evidence
    state: str = "new"

    @classmethod
    def build(
        cls,
        origin: str,
        transport: Transport,
        poll: Poll,
        policy: DeployPolicy,
        journal: Journal,
        close_timeout: float,
    ) -> Runtime:
        """Create the parts, from the endpoints upwards."""
        tasks = BackgroundTasks(transport.owner, journal.be_at_work)
        # A deploy may take `settle` seconds to appear in lists, so absence proves nothing before that.
        evidence = Evidence(max(GRACE, policy.settle))
        evidence.on_over(journal.is_over)
        pollers = {kind: Poller(Endpoints(transport, kind), poll, tasks, evidence) for kind in Kind}
        waiter = Waiter(pollers, poll, tasks)
        custodian = Custodian(tasks, waiter, journal, evidence)
        catalogue = Catalogue(Plans(transport), poll.pace)
        deployer = Deployer(tasks, custodian, journal, transport, policy, evidence, catalogue)
        return cls(
            origin, transport, poll, tasks, journal, waiter, custodian, deployer, close_timeout, evidence
        )

    async def open(self) -> None:
        """Open the journal, and start the task that holds all others.

        Raises:
            ConfigError: the session was entered before or elsewhere, or the journal cannot be opened.
        """
        if self.state != "new":
            raise ConfigError("a session is entered once; make a new one")
        self.tasks.owner.check()
        with self.tasks.at_work():
            await self.journal.open()
            self.state = "open"
            try:
                await self.tasks.open()
            except BaseException:  # cancelled in `open`: without __aenter__, there is no __aexit__
                await self.close()
                raise
        self.transport.limiter.open(partial(self.tasks.spawn, is_service=True))

    async def close(self) -> None:
        """Wait until nothing is in custody, then stop everything.

        Raises:
            ConfigError: this is not the session's event loop. The session stays open in its own.
            CustodyError: something may still be running, and billing.
        """
        self.tasks.owner.check()
        try:
            await self.custodian.drain(self.close_timeout)
        finally:
            self.state = "closed"
            self.waiter.close()
            self.transport.limiter.close()
            try:
                await self.tasks.close()
            finally:  # a second Ctrl-C must not leave sockets open
                self.journal.close()
                await self.transport.wire.aclose()
