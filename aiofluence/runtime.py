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
from .lifecycle.journal import Journal
from .lifecycle.policy import DeployPolicy
from .lifecycle.wait import Waiter
from .models.values import Kind
from .polling.evidence import GRACE, Evidence
from .polling.schedule import Poll
from .polling.watch import Pollers
from .resources.catalogue import Catalogue
from .resources.endpoints import Endpoints
from .resources.plans import Plans


@attrs.define
class Runtime:
    """Shared state of one session and its views."""

    origin: str
    transport: Transport
    poll: Poll
    home: BackgroundTasks
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
        home = BackgroundTasks(transport.owner, journal.be_at_work)
        resources = {kind: Endpoints(transport, kind) for kind in Kind}
        # A deploy may take `settle` seconds to appear in lists, so absence proves nothing before that.
        evidence = Evidence(max(GRACE, policy.settle))
        evidence.on_over(journal.is_over)
        waiter = Waiter(Pollers(resources, poll, home, transport.limiter, transport.clock, evidence), home)
        custodian = Custodian(home, waiter, journal, evidence)
        catalogue = Catalogue(Plans(transport), poll.pace)
        deployer = Deployer(home, custodian, journal, transport, policy, evidence, catalogue)
        return cls(
            origin, transport, poll, home, journal, waiter, custodian, deployer, close_timeout, evidence
        )

    async def open(self) -> None:
        """Open the journal, and start the task that holds all others.

        Raises:
            ConfigError: the session was entered before or elsewhere, or the journal cannot be opened.
        """
        if self.state != "new":
            raise ConfigError("a session is entered once; make a new one")
        self.home.owner.check()
        with self.home.at_work():
            await self.journal.open()
            self.state = "open"
            try:
                await self.home.open()
            except BaseException:  # cancelled in `open`: without __aenter__, there is no __aexit__
                await self.close()
                raise
        self.transport.limiter.open(partial(self.home.spawn, is_service=True))

    async def close(self) -> None:
        """Wait until nothing is in custody, then stop everything.

        Raises:
            ConfigError: this is not the session's event loop. The session stays open in its own.
            CustodyError: something may still be running, and billing.
        """
        self.home.owner.check()
        try:
            await self.custodian.drain(self.close_timeout)
        finally:
            self.state = "closed"
            self.waiter.close()
            self.transport.limiter.close()
            try:
                await self.home.close()
            finally:  # a second Ctrl-C must not leave sockets open
                self.journal.close()
                await self.transport.wire.aclose()
