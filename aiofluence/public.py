"""Every public name of `aiofluence`, from where it lives.

The package loads this module when it is first asked for one of them. Nobody else does.
"""

from .errors import (
    Attempt as Attempt,
)
from .errors import (
    AuthError as AuthError,
)
from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    CustodyError as CustodyError,
)
from .errors import (
    DecodeError as DecodeError,
)
from .errors import (
    FluenceError as FluenceError,
)
from .errors import (
    InstanceEndedError as InstanceEndedError,
)
from .errors import (
    InstanceFailedError as InstanceFailedError,
)
from .errors import (
    InsufficientBalanceError as InsufficientBalanceError,
)
from .errors import (
    InvalidRequestError as InvalidRequestError,
)
from .errors import (
    LifecycleError as LifecycleError,
)
from .errors import (
    NoReplyError as NoReplyError,
)
from .errors import (
    NotActiveError as NotActiveError,
)
from .errors import (
    NotFoundError as NotFoundError,
)
from .errors import (
    NotSentError as NotSentError,
)
from .errors import (
    PlanUnavailableError as PlanUnavailableError,
)
from .errors import (
    RateLimitedError as RateLimitedError,
)
from .errors import (
    RefusedError as RefusedError,
)
from .errors import (
    ReplyError as ReplyError,
)
from .errors import (
    ServerError as ServerError,
)
from .errors import (
    Sighting as Sighting,
)
from .errors import (
    SpecError as SpecError,
)
from .errors import (
    UncertainDeployError as UncertainDeployError,
)
from .errors import (
    UnsupportedImageError as UnsupportedImageError,
)
from .errors import (
    UpdateInProgressError as UpdateInProgressError,
)
from .errors import (
    WaitTimeoutError as WaitTimeoutError,
)
from .errors import (
    WireError as WireError,
)
from .gate import RateLimit as RateLimit
from .lifecycle.batch import Launch as Launch
from .lifecycle.custody import Custody as Custody
from .lifecycle.policy import DeployPolicy as DeployPolicy
from .lifecycle.report import (
    LaunchError as LaunchError,
)
from .lifecycle.report import (
    LaunchProgress as LaunchProgress,
)
from .lifecycle.report import (
    LaunchState as LaunchState,
)
from .lifecycle.report import (
    Outcome as Outcome,
)
from .lifecycle.report import (
    Report as Report,
)
from .lifecycle.schedule import Poll as Poll
from .lifecycle.sweep import SweepReport as SweepReport
from .lifecycle.wait import Until as Until
from .models.catalog import (
    ContainerPlan as ContainerPlan,
)
from .models.catalog import (
    DefaultImage as DefaultImage,
)
from .models.catalog import (
    GpuModel as GpuModel,
)
from .models.catalog import (
    MachineAvailability as MachineAvailability,
)
from .models.catalog import (
    MachineOption as MachineOption,
)
from .models.catalog import (
    MachinePlanGroup as MachinePlanGroup,
)
from .models.catalog import (
    Offer as Offer,
)
from .models.catalog import (
    Pricing as Pricing,
)
from .models.catalog import (
    Supply as Supply,
)
from .models.instances import (
    Billing as Billing,
)
from .models.instances import (
    Container as Container,
)
from .models.instances import (
    ContainerInfo as ContainerInfo,
)
from .models.instances import (
    ContainerSummary as ContainerSummary,
)
from .models.instances import (
    ForwardedPort as ForwardedPort,
)
from .models.instances import (
    InstanceRef as InstanceRef,
)
from .models.instances import (
    Machine as Machine,
)
from .models.instances import (
    MachineSummary as MachineSummary,
)
from .models.instances import (
    Network as Network,
)
from .models.instances import (
    Resources as Resources,
)
from .models.output import (
    Event as Event,
)
from .models.output import (
    GapReason as GapReason,
)
from .models.output import (
    LogGap as LogGap,
)
from .models.output import (
    LogLine as LogLine,
)
from .models.specs import (
    BareMetalSpec as BareMetalSpec,
)
from .models.specs import (
    ContainerSpec as ContainerSpec,
)
from .models.specs import (
    RegistryCredentials as RegistryCredentials,
)
from .models.specs import (
    VMSpec as VMSpec,
)
from .models.specs import (
    unique_name as unique_name,
)
from .models.updates import ContainerUpdate as ContainerUpdate
from .models.values import (
    ContainerStatus as ContainerStatus,
)
from .models.values import (
    DeploymentType as DeploymentType,
)
from .models.values import (
    Environment as Environment,
)
from .models.values import (
    EventType as EventType,
)
from .models.values import (
    Interface as Interface,
)
from .models.values import (
    Kind as Kind,
)
from .models.values import (
    Port as Port,
)
from .models.values import (
    PortProtocol as PortProtocol,
)
from .models.values import (
    Size as Size,
)
from .models.values import (
    Status as Status,
)
from .protocol import (
    Reply as Reply,
)
from .protocol import (
    Request as Request,
)
from .protocol import (
    Timeout as Timeout,
)
from .protocol import (
    Wire as Wire,
)
from .retry import Retry as Retry
from .run import run as run
from .session import Session as Session
from .tail.events import EventTail as EventTail
from .tail.logs import LogTail as LogTail
from .tail.merged import (
    MergedTail as MergedTail,
)
from .tail.merged import (
    TaggedLine as TaggedLine,
)
