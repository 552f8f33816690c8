"""Every public name of `aiofluence`, imported from its module.

Only the package itself loads this module, on the first use of a public name.
"""

import inspect as _inspect
from typing import Any as _Any

import attrs as _attrs

from .batch.launch import Launch as Launch
from .batch.progress import Eta as Eta, LaunchProgress as LaunchProgress
from .batch.progress_bar import ProgressDisplay as ProgressDisplay
from .batch.report import (
    LaunchError as LaunchError,
    LaunchState as LaunchState,
    Outcome as Outcome,
    Report as Report,
)
from .display.table import Table as Table
from .display.timeline import Timeline as Timeline, Times as Times
from .errors import (
    Attempt as Attempt,
    AuthError as AuthError,
    ConfigError as ConfigError,
    CustodyError as CustodyError,
    DecodeError as DecodeError,
    FluenceError as FluenceError,
    InstanceEndedError as InstanceEndedError,
    InstanceFailedError as InstanceFailedError,
    InsufficientBalanceError as InsufficientBalanceError,
    InvalidRequestError as InvalidRequestError,
    LifecycleError as LifecycleError,
    MinimumRuntimeError as MinimumRuntimeError,
    NoReplyError as NoReplyError,
    NotActiveError as NotActiveError,
    NotFoundError as NotFoundError,
    NotSentError as NotSentError,
    PlanUnavailableError as PlanUnavailableError,
    RateLimitedError as RateLimitedError,
    RefusedError as RefusedError,
    ReplyError as ReplyError,
    ServerError as ServerError,
    Sighting as Sighting,
    SpecError as SpecError,
    UncertainDeployError as UncertainDeployError,
    UnsupportedImageError as UnsupportedImageError,
    UpdateInProgressError as UpdateInProgressError,
    WaitTimeoutError as WaitTimeoutError,
    WireError as WireError,
)
from .http.messages import Reply as Reply, Request as Request, Timeout as Timeout, Wire as Wire
from .http.rate_limit import RateLimit as RateLimit
from .http.redis_rate_limit import RedisRate as RedisRate
from .http.retry import Retry as Retry
from .lifecycle.options import DeployPolicy as DeployPolicy, Until as Until
from .lifecycle.sweep import SweepReport as SweepReport
from .models.account import Balance as Balance
from .models.custody import Custody as Custody
from .models.instances import (
    Billing as Billing,
    Container as Container,
    ContainerInfo as ContainerInfo,
    ContainerSummary as ContainerSummary,
    ForwardedPort as ForwardedPort,
    InstanceRef as InstanceRef,
    Machine as Machine,
    MachineSummary as MachineSummary,
    Network as Network,
    Resources as Resources,
)
from .models.logs import Event as Event, GapReason as GapReason, LogGap as LogGap, LogLine as LogLine
from .models.plans import (
    ContainerPlan as ContainerPlan,
    DefaultImage as DefaultImage,
    MachineAvailability as MachineAvailability,
    MachineOption as MachineOption,
    MachinePlanGroup as MachinePlanGroup,
    Offer as Offer,
    Pricing as Pricing,
)
from .models.specs import (
    BareMetalSpec as BareMetalSpec,
    ContainerSpec as ContainerSpec,
    Deployable as Deployable,
    RegistryCredentials as RegistryCredentials,
    VMSpec as VMSpec,
    unique_name as unique_name,
)
from .models.updates import ContainerUpdate as ContainerUpdate
from .models.values import (
    ContainerStatus as ContainerStatus,
    DeploymentType as DeploymentType,
    Environment as Environment,
    EventType as EventType,
    GpuModel as GpuModel,
    Interface as Interface,
    Kind as Kind,
    Port as Port,
    PortProtocol as PortProtocol,
    Size as Size,
    Status as Status,
    Supply as Supply,
)
from .polling.options import Poll as Poll
from .resources.drift import Drift as Drift
from .session import Session as Session
from .signals import run as run
from .tail.events import EventTail as EventTail
from .tail.logs import LogTail as LogTail
from .tail.merged import MergedTail as MergedTail, TaggedLine as TaggedLine


class _ShownSignature:
    """The signature of an attrs class, with defaults where attrs writes `NOTHING`. Computed on request."""

    def __get__(self, _: object, model: type) -> _inspect.Signature:
        signature = _inspect.signature(model.__init__)  # type: ignore[misc]
        shown = []
        for name, parameter in list(signature.parameters.items())[1:]:
            if parameter.default is _attrs.NOTHING:
                factory: _Any = _attrs.fields_dict(model)[name].default
                # A default that depends on other fields is that of an instance with defaults only.
                default = getattr(model(), name) if factory.takes_self else factory.factory()
                parameter = parameter.replace(default=default)
            shown.append(parameter)
        return signature.replace(parameters=shown)


for _model in tuple(filter(_inspect.isclass, globals().values())):
    _fields: _Any = _attrs.fields(_model) if _attrs.has(_model) else ()
    if any(isinstance(_field.default, _attrs.Factory) for _field in _fields):  # type: ignore[arg-type]
        _model.__signature__ = _ShownSignature()  # type: ignore[attr-defined]
