"""An async client for the Fluence GPU Cloud.

Everything a program needs is here by name; `Session` is where to begin. The simulator of the service
is `aiofluence.simulator`.
"""

from .errors import (
    Attempt,
    AuthError,
    ConfigError,
    CustodyError,
    DecodeError,
    FluenceError,
    InstanceEndedError,
    InstanceFailedError,
    InsufficientBalanceError,
    InvalidRequestError,
    LifecycleError,
    NoReplyError,
    NotActiveError,
    NotFoundError,
    NotSentError,
    PlanUnavailableError,
    RateLimitedError,
    RefusedError,
    ReplyError,
    ServerError,
    Sighting,
    SpecError,
    UncertainDeployError,
    UnsupportedImageError,
    UpdateInProgressError,
    WaitTimeoutError,
    WireError,
)
from .gate import RateLimit
from .lifecycle.batch import Launch
from .lifecycle.custody import Custody
from .lifecycle.policy import DeployPolicy
from .lifecycle.report import LaunchError, LaunchState, Outcome, Report
from .lifecycle.schedule import Poll
from .lifecycle.sweep import SweepReport
from .lifecycle.tally import LaunchProgress
from .lifecycle.timeline import Timeline, Times
from .lifecycle.wait import Until
from .models.catalog import (
    ContainerPlan,
    DefaultImage,
    GpuModel,
    MachineAvailability,
    MachineOption,
    MachinePlanGroup,
    Offer,
    Pricing,
    Supply,
)
from .models.instances import (
    Billing,
    Container,
    ContainerInfo,
    ContainerSummary,
    ForwardedPort,
    InstanceRef,
    Machine,
    MachineSummary,
    Network,
    Resources,
)
from .models.output import Event, GapReason, LogGap, LogLine
from .models.specs import BareMetalSpec, ContainerSpec, RegistryCredentials, VMSpec, unique_name
from .models.table import Table
from .models.updates import ContainerUpdate
from .models.values import (
    ContainerStatus,
    DeploymentType,
    Environment,
    EventType,
    Interface,
    Kind,
    Port,
    PortProtocol,
    Size,
    Status,
)
from .progress import ProgressDisplay
from .protocol import Reply, Request, Timeout, Wire
from .retry import Retry
from .run import run
from .session import Session
from .tail.events import EventTail
from .tail.logs import LogTail
from .tail.merged import MergedTail, TaggedLine

__all__ = [
    "Attempt",
    "AuthError",
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
    "DeploymentType",
    "Environment",
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
