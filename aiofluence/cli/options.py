"""The options that several commands share, each with one spelling and one help text.

Contains declarations for typer, and the parsing of durations. The commands define what an option does.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from ..models.values import Kind

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


def read_duration(text: str | float) -> float:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `1d`; `never` is infinite.

    Raises:
        typer.BadParameter: the text is none of these.
    """
    if isinstance(text, float):  # typer passes an option's default here, too
        return text
    if text == "never":
        return math.inf
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 90, 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def timeout_of(seconds: float) -> float | None:
    """Convert seconds to a timeout of the library: None if infinite."""
    return None if math.isinf(seconds) else seconds


UntilChoice: TypeAlias = Literal["active", "ready", "reachable"]
OnFailure: TypeAlias = Literal["terminate", "keep"]

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Name or id of an instance.")]
NamesArgument: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="NAME", help="Names or ids of instances.")
]
KindOption: TypeAlias = Annotated[Kind | None, typer.Option(help="Only this kind.")]
LocationOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="PLACE", help="A place, a country such as US or Norway, or a pattern such as us-*."),
]
MinCpusOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="At least that many CPUs.")
]
MinMemoryOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SIZE", help="At least that much memory: 32Gi, 32GB.")
]
MinStorageOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SIZE", help="At least that much disk.")
]
MinVramOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="SIZE", help="At least that much memory on each GPU.")
]
ProviderOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="A machine's provider, such as massed-compute.")
]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Only print what would be done, and what it would cost.")
]
UntilOption: TypeAlias = Annotated[
    UntilChoice,
    typer.Option(help="State to wait for: active in the service, ready for use, or reachable at a port."),
]
TimeoutOption: TypeAlias = Annotated[
    float,
    typer.Option(
        parser=read_duration,
        metavar="TIME",
        show_default=False,
        help="Time for all instances: 90, 15m, 2h, never. Default: 15m.",
    ),
]
EndTimeoutOption: TypeAlias = Annotated[
    float,
    typer.Option(
        parser=read_duration,
        metavar="TIME",
        show_default=False,
        help="Time for all instances: 90, 15m, 2h, never. Default: 40m, as machines refuse for 20 minutes.",
    ),
]
AdoptOption: TypeAlias = Annotated[
    bool, typer.Option("--adopt", help="Adopt live instances of these names, and deploy only the others.")
]
KeepOption: TypeAlias = Annotated[
    bool, typer.Option("--keep", help="Leave instances that are not ready in time running, and billing.")
]
JournalOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Record every deploy there before it is sent, for sweep.")
]
LastOption: TypeAlias = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N.")]
FollowOption: TypeAlias = Annotated[bool, typer.Option("--follow", "-f", help="Continue as new ones arrive.")]
UserOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Log in as this user. Default: the service's user, root for containers.")
]
IdentityOption: TypeAlias = Annotated[
    str | None, typer.Option("--identity", "-i", metavar="FILE", help="The private key for the log-in.")
]
EnvironmentOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable. Without a value: your own."),
]
SshKeyOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="KEY|FILE", help="Public key, as text or as the file that ends in .pub.")
]
RegistryOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="HOST", help="Private registry of the image: docker.io or ghcr.io.")
]
RegistryUserOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="USER", help="User of the registry; password: FLUENCE_REGISTRY_PASSWORD."),
]
