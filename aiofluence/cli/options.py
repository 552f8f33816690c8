"""The options that several commands share, each with one spelling and one help text.

Contains declarations, and the parsing of durations. The commands define what an option does.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from ..models.values import Kind
from .arguments import Argument, Option, at_least

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def read_duration(text: str) -> float:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `1d`; `never` is infinite.

    Raises:
        ValueError: the text is none of these.
    """
    if text == "never":
        return math.inf
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 90, 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def timeout_of(seconds: float) -> float | None:
    """Convert seconds to a timeout of the library: None if infinite."""
    return None if math.isinf(seconds) else seconds


UntilChoice: TypeAlias = Literal["active", "ready", "reachable"]
OnFailure: TypeAlias = Literal["terminate", "keep"]

JsonOption: TypeAlias = Annotated[bool, Option("--json", help="Print JSON for scripts.")]
NameArgument: TypeAlias = Annotated[
    str,
    Argument(
        metavar="NAME",
        help="Name or id of an instance; the first 4 or more characters of an id suffice.",
        complete="instance",
    ),
]
NamesArgument: TypeAlias = Annotated[
    list[str],
    Argument(
        metavar="NAME",
        help="Names, patterns such as 'exp-*', or ids; the first 4 or more characters of an id suffice.",
        complete="instance",
    ),
]
KindOption: TypeAlias = Annotated[Kind | None, Option(help="Only this kind.")]
LocationOption: TypeAlias = Annotated[
    str | None,
    Option(
        metavar="PLACE",
        help="A place, a country such as US or Norway, or a pattern such as us-*.",
        complete="place",
    ),
]
MinCpusOption: TypeAlias = Annotated[
    int | None, Option(parser=at_least(1), metavar="N", help="At least that many CPUs.")
]
MinMemoryOption: TypeAlias = Annotated[
    str | None, Option(metavar="SIZE", help="At least that much memory: 32Gi, 32GB.")
]
MinStorageOption: TypeAlias = Annotated[str | None, Option(metavar="SIZE", help="At least that much disk.")]
MinVramOption: TypeAlias = Annotated[
    str | None, Option(metavar="SIZE", help="At least that much memory on each GPU.")
]
ProviderOption: TypeAlias = Annotated[
    str | None,
    Option(metavar="NAME", help="A machine's provider, such as massed-compute.", complete="provider"),
]
GpusOption: TypeAlias = Annotated[
    list[str] | None,
    Option(
        metavar="MODEL",
        help="Without a plan: the cheapest plan with this GPU. Several are tried in this order.",
        complete="gpu",
    ),
]
CapacityOption: TypeAlias = Annotated[
    float | None,
    Option(
        parser=read_duration,
        metavar="TIME",
        help="If nothing fits or all is sold out: wait so long for a plan, in addition to --timeout.",
    ),
]
YesOption: TypeAlias = Annotated[bool, Option("--yes", "-y", help="Do not ask.")]
DryRunOption: TypeAlias = Annotated[
    bool, Option("--dry-run", help="Only print what would be done, and what it would cost.")
]
UntilOption: TypeAlias = Annotated[
    UntilChoice,
    Option(help="State to wait for: active in the service, ready for use, or reachable at a port."),
]
TimeoutOption: TypeAlias = Annotated[
    float,
    Option(
        parser=read_duration,
        metavar="TIME",
        help="Time for all instances: 90, 15m, 2h, never. Default: 15m.",
    ),
]
EndTimeoutOption: TypeAlias = Annotated[
    float,
    Option(
        parser=read_duration,
        metavar="TIME",
        help="Time for all instances: 90, 15m, 2h, never. Default: 40m, as machines refuse for 20 minutes.",
    ),
]
AdoptOption: TypeAlias = Annotated[
    bool, Option("--adopt", help="Adopt live instances of these names, and deploy only the others.")
]
KeepOption: TypeAlias = Annotated[
    bool, Option("--keep", help="Leave instances that are not ready in time running, and billing.")
]
JournalOption: TypeAlias = Annotated[
    Path | None, Option(metavar="FILE", help="Record every deploy there before it is sent, for sweep.")
]
LastOption: TypeAlias = Annotated[
    int | None, Option("--last", "-n", parser=at_least(1), metavar="N", help="Only the newest N.")
]
FollowOption: TypeAlias = Annotated[bool, Option("--follow", "-f", help="Continue as new ones arrive.")]
UserOption: TypeAlias = Annotated[
    str | None, Option(help="Log in as this user. Default: the service's user, root for containers.")
]
IdentityOption: TypeAlias = Annotated[
    str | None, Option("--identity", "-i", metavar="FILE", help="The private key for the log-in.")
]
EnvironmentOption: TypeAlias = Annotated[
    list[str] | None,
    Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable. Without a value: your own."),
]
SshKeyOption: TypeAlias = Annotated[
    str | None, Option(metavar="KEY|FILE", help="Public key, as text or as the file that ends in .pub.")
]
EnvFileOption: TypeAlias = Annotated[
    Path | None,
    Option(
        metavar="FILE", help="Variables, one NAME=VALUE on a line, as for docker. --env goes before them."
    ),
]
WideOption: TypeAlias = Annotated[
    bool, Option("--wide", "-w", help="Show all columns, uncut, whatever the width of the terminal.")
]
RegistryOption: TypeAlias = Annotated[
    str | None, Option(metavar="HOST", help="Private registry of the image: docker.io or ghcr.io.")
]
RegistryUserOption: TypeAlias = Annotated[
    str | None,
    Option(metavar="USER", help="User of the registry; password: FLUENCE_REGISTRY_PASSWORD."),
]
