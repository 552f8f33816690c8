"""`Session` for programs without async: the same names, arguments, results and promises.

`with aiofluence.sync.Session() as fluence: ...` runs an event loop in a separate thread for the duration of
the block. `import aiofluence` does not load this package.
"""

from .resources import Account, Containers, EventTail, Images, Launch, LogTail, Machines, MergedTail, Plans
from .session import Session

__all__ = [
    "Account",
    "Containers",
    "EventTail",
    "Images",
    "Launch",
    "LogTail",
    "Machines",
    "MergedTail",
    "Plans",
    "Session",
]
