"""`Session` for programs that are not async: the same names, arguments, results and promises.

`with aiofluence.sync.Session() as fluence: ...` runs an event loop in a thread of its own until the block is
left. `import aiofluence` does not load this.
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
