"""The options that several commands share, each with one spelling and one help text.

Declarations for typer, and the reading of durations; what an option does is its command's business.
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
    """Seconds of `90`, `90s`, `15m`, `2h`, `1d`; `never` is infinite.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if isinstance(text, float):  # typer hands over an option's default as well
        return text
    if text == "never":
        return math.inf
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time such as 90, 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def timeout_of(seconds: float) -> float | None:
    """As the library takes it: None for ever."""
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
    bool, typer.Option("--dry-run", help="Only say what would be done, and what it would cost.")
]
UntilOption: TypeAlias = Annotated[
    UntilChoice,
    typer.Option(help="How far it must have come: the service says so, it can be used, a port answers."),
]
TimeoutOption: TypeAlias = Annotated[
    float,
    typer.Option(
        parser=read_duration,
        metavar="TIME",
        show_default=False,
        help="For all: 90, 15m, 2h, never; 15m unless told.",
    ),
]
EndTimeoutOption: TypeAlias = Annotated[
    float,
    typer.Option(
        parser=read_duration,
        metavar="TIME",
        show_default=False,
        help="For all: 90, 15m, 2h, never; 40m unless told: machines refuse their end for 20 minutes.",
    ),
]
AdoptOption: TypeAlias = Annotated[
    bool, typer.Option("--adopt", help="Take live instances of these names, and deploy only what is missing.")
]
KeepOption: TypeAlias = Annotated[
    bool, typer.Option("--keep", help="Leave running, and billing, what does not get there in time.")
]
JournalOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Note every deploy there before it is sent, for sweep.")
]
LastOption: TypeAlias = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest N.")]
FollowOption: TypeAlias = Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")]
UserOption: TypeAlias = Annotated[
    str | None, typer.Option(help="Log in as this user; else as the service says, to containers as root.")
]
IdentityOption: TypeAlias = Annotated[
    str | None, typer.Option("--identity", "-i", metavar="FILE", help="The private key to log in with.")
]
EnvironmentOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; without value, your own."),
]
SshKeyOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="KEY|FILE", help="Public key, as text or as the file that ends in .pub.")
]
RegistryOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="HOST", help="Private registry of the image: docker.io or ghcr.io.")
]
RegistryUserOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="USER", help="Its user; the password is in FLUENCE_REGISTRY_PASSWORD.")
]
