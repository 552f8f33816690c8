"""State that a session and its `with_options` views share: pool, rate limiter, tasks, custody, journal.

`Runtime` creates, opens and closes these parts. It contains no other logic.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .background import BackgroundTasks
from .errors import ConfigError
from .http.transport import Transport
from .lifecycle.options import DeployPolicy
from .models.custody import Custody
from .models.instances import InstanceRef
from .models.specs import Spec
from .polling.evidence import GRACE, Evidence
from .polling.options import Poll
from .resources.endpoints import Endpoints

if TYPE_CHECKING:
    from .lifecycle.parts import Lifecycle


class Runtime:
    """Shared state of one session and its views.

    Attributes:
        state: `"new"`, `"open"` or `"closed"`.
    """

    def __init__(
        self,
        origin: str,
        transport: Transport,
        poll: Poll,
        policy: DeployPolicy,
        journal: str | os.PathLike[str] | None,
        close_timeout: float,
    ) -> None:
        self.origin: Final = origin
        self.transport: Final = transport
        self.poll: Final = poll
        self.close_timeout: Final = close_timeout
        self.tasks: Final = BackgroundTasks(transport.owner)
        # A deploy may take `settle` seconds to appear in lists, so absence proves nothing before that.
        self.evidence: Final = Evidence(max(GRACE, policy.settle))
        self.state: str = "new"
        self._policy = policy
        self._journal = journal
        # A journal has to know of all work in flight, from the first on.
        self._lifecycle = None if journal is None else self._build()

    @property
    def lifecycle(self) -> Lifecycle:
        """The parts that deploy, wait and end. The first use creates them."""
        if self._lifecycle is None:
            self._lifecycle = self._build()
        return self._lifecycle

    def _build(self) -> Lifecycle:
        # Imported with its first use, so that programs and commands that only read start sooner.
        from .lifecycle.parts import Lifecycle

        return Lifecycle(
            self.origin, self._journal, self.transport, self.poll, self._policy, self.tasks, self.evidence
        )

    def deploy(self, endpoints: Endpoints, spec: Spec) -> Coroutine[Any, Any, InstanceRef]:
        """Deploy exactly once. See `lifecycle.deploy.Deployer`."""
        return self.lifecycle.deployer(endpoints, spec)

    @property
    def custody(self) -> Custody:
        """The custody at this moment. Any thread may call this."""
        return Custody() if self._lifecycle is None else self._lifecycle.custodian.now

    def report_left(self) -> None:
        """Log the instances that may still be running, at once. Any thread may call this."""
        if self._lifecycle is not None:
            self._lifecycle.custodian._report(at_once=True)

    async def open(self) -> None:
        """Open the journal, and start the task that holds all others.

        Raises:
            ConfigError: the session was entered before or elsewhere, or the journal cannot be opened.
        """
        if self.state != "new":
            raise ConfigError("a session is entered once; make a new one")
        self.tasks.owner.check()
        with self.tasks.at_work():
            if self._lifecycle is not None:
                await self._lifecycle.journal.open()
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
            if self._lifecycle is not None:
                await self._lifecycle.drain(self.close_timeout)
        finally:
            self.state = "closed"
            self.transport.limiter.close()
            try:
                await self.tasks.close()
            finally:  # a second Ctrl-C must not leave sockets open
                if self._lifecycle is not None:
                    self._lifecycle.journal.close()
                await self.transport.wire.aclose()
