"""The page docs/fidelity.md, made from the claims and from the two presets.

Text only: `__main__` prints it, and a test compares it with the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..profile import DEFAULT_PROFILE, KIND, LIKELY, Profile
from . import CLAIMS, SECTIONS, Claim

_HEAD: Final = """\
% Made by `python -m aiofluence.simulator.claims`; change the tables in `aiofluence/simulator/claims/`.

# How true the simulator is

`aiofluence.simulator` imitates the Fluence GPU Cloud from what has been published about it. It has not been compared
with the running service. This page states for each claim whether it is documented or our guess, so that you know what
a green test proves.

| class | meaning | claims |
|---|---|---|
| **documented** | the service's public page, its public guides or the documents in them | {documented} |
| **likely** | it follows from the systems behind the service (containers on Akash, machines on Spheron) or was seen by their users; a percentage says how sure | {likely} |
| **assumed** | the documents are silent, or contradict each other, and we chose | {assumed} |
| **unknown** | not modelled, or left to the test to script | {unknown} |

## Profiles

Where the documents leave a choice, a `Profile` has a field for it. Two presets set them all: `likely` is what the
service probably does, `kind` what harms a client least. A simulator that is made
without a profile has `{default}`.

```python
from aiofluence.simulator import LIKELY, Simulator

Simulator(profile="likely")
Simulator(profile=LIKELY.replace(minimum_runtime=0, cluster={{"fold_events": False}}))
```

On the command line it is `--profile likely`, over the control API `POST /_sim/profile` (see [](testing.md)), in a test
`@pytest.mark.fluence_simulator(profile="likely")`.
The last column names what switches a claim, and for the fields of a profile the values: likely / kind.

"""

_TAIL: Final = """\
## The two doors

A `SimulatorWire` and a `SimulatorServer` act out the same faults, with two differences. A server has accepted a
connection before it can refuse it, so `Fault.refuse()` is a reset there. And a virtual clock suits the wire always,
the server only when its clients run in the same loop: a clock that jumps does not wait for other threads or processes.
"""


def page() -> str:
    """The whole page."""
    count = {name: sum(claim.class_ == name for claim in CLAIMS) for name in _CLASSES}
    return _HEAD.format(default=DEFAULT_PROFILE, **count) + "".join(_sections()) + _TAIL


_CLASSES: Final = ("documented", "likely", "assumed", "unknown")


def _sections() -> Iterator[str]:
    for title, claims in SECTIONS.items():
        yield f"## {title}\n\n| id | class | claim | source | switch |\n|---|---|---|---|---|\n"
        yield from map(_row, claims)
        yield "\n"


def _row(claim: Claim) -> str:
    switches = "; ".join(map(_switch, claim.options))
    return f"| {claim.id} | {claim.class_} | {claim.text} | {claim.source} | {switches} |\n"


def _switch(option: str) -> str:
    values = [_value(profile, option) for profile in (LIKELY, KIND)]
    return f"`{option}`" if None in values else f"`{option}`: {values[0]} / {values[1]}"


def _value(profile: Profile, option: str) -> str | None:
    """A field's value as text; None when the option is no field of a profile."""
    owner, _, name = option.partition(".")
    part = {
        "Profile": profile,
        "ClusterOptions": profile.cluster,
        "Provisioning": profile.provisioning,
    }.get(owner)
    if part is None:
        return None
    value = getattr(part, name)
    return f"{value:g}" if isinstance(value, float) else f"{value}"
