"""An async client for the Fluence GPU Cloud.

All names that a program needs are here. Begin with `Session`. The simulator of the service is
`aiofluence.simulator`. Importing the package costs nothing until a name is used. This matters for pytest,
which imports its plugin in every run, and for shells that complete the command.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

if _TYPE_CHECKING:
    from .public import *

__all__ = [
    "Attempt",
    "AuthError",
    "Balance",
    "BareMetalSpec",
    "Billing",
    "ConfigError",
    "Container",
    "ContainerInfo",
    "ContainerPlan",
    "ContainerSpec",
    "ContainerStatus",
    "ContainerSummary",
    "ContainerUpdate",
    "Custody",
    "CustodyError",
    "DecodeError",
    "DefaultImage",
    "DeployPolicy",
    "Deployable",
    "DeploymentType",
    "Drift",
    "Environment",
    "Eta",
    "Event",
    "EventTail",
    "EventType",
    "FluenceError",
    "ForwardedPort",
    "GapReason",
    "GpuModel",
    "InstanceEndedError",
    "InstanceFailedError",
    "InstanceRef",
    "InsufficientBalanceError",
    "Interface",
    "InvalidRequestError",
    "Kind",
    "Launch",
    "LaunchError",
    "LaunchProgress",
    "LaunchState",
    "LifecycleError",
    "LogGap",
    "LogLine",
    "LogTail",
    "Machine",
    "MachineAvailability",
    "MachineOption",
    "MachinePlanGroup",
    "MachineSummary",
    "MergedTail",
    "MinimumRuntimeError",
    "Network",
    "NoReplyError",
    "NotActiveError",
    "NotFoundError",
    "NotSentError",
    "Offer",
    "Outcome",
    "PlanUnavailableError",
    "Poll",
    "Port",
    "PortProtocol",
    "Pricing",
    "ProgressDisplay",
    "RateLimit",
    "RateLimitedError",
    "RedisRate",
    "RefusedError",
    "RegistryCredentials",
    "Reply",
    "ReplyError",
    "Report",
    "Request",
    "Resources",
    "Retry",
    "ServerError",
    "Session",
    "Sighting",
    "Size",
    "SpecError",
    "Status",
    "Supply",
    "SweepReport",
    "Table",
    "TaggedLine",
    "Timeline",
    "Timeout",
    "Times",
    "UncertainDeployError",
    "UnsupportedImageError",
    "Until",
    "UpdateInProgressError",
    "VMSpec",
    "WaitTimeoutError",
    "Wire",
    "WireError",
    "run",
    "unique_name",
]


def __getattr__(name: str) -> _Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = _import_module(".public", __name__)
    globals().update({name: getattr(public, name) for name in __all__})
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
