"""The custody of a session at one moment, as its callers see it.

`lifecycle.custody` ends the instances.
"""

from __future__ import annotations

import attrs

from .instances import InstanceRef


@attrs.frozen
class Custody:
    """The instances and deploys that a session is responsible for at one moment.

    Attributes:
        ending: instances that the session is ending. They still bill.
        lost: instances that could not be ended. They may still bill.
        duplicates: second instances of one deploy, which the service showed late. They end or have ended.
        deploying: names of deploys in flight.
        uncertain: names of deploys that may have left an instance, and whose error reached no caller.
        watching: names that the session still watches for late duplicates.
        seconds_left: rough number of seconds until the last of `ending` is gone. None if unknown.
        refused: those of `ending` whose DELETE the service refuses until a minimum runtime is over.
    """

    ending: tuple[InstanceRef, ...] = ()
    lost: tuple[InstanceRef, ...] = ()
    duplicates: tuple[InstanceRef, ...] = ()
    deploying: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    watching: tuple[str, ...] = ()
    seconds_left: float | None = None
    refused: tuple[InstanceRef, ...] = ()
