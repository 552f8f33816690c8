"""The class of a claim about the service, and one function per class of claims.

A claim consists of text and names and has no effect. A test checks that the named options exist.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

ClaimClass: TypeAlias = Literal["documented", "likely", "assumed", "unknown"]


@attrs.frozen
class Claim:
    """A statement about the service.

    Attributes:
        id: unique name of the claim.
        class_: documented (the service's page or guides), likely (the systems behind the service, or their
            users), assumed (the documents are silent or contradict each other), unknown (a question).
        text: behaviour of the simulator, or the question of an unknown claim.
        source: origin of the claim.
        options: names of the options that switch the behaviour: `Profile.x`, `ClusterOptions.x`, `Provisioning.x` or `Simulator.x`.
    """

    id: str
    class_: ClaimClass
    text: str
    source: str
    options: tuple[str, ...] = ()


def documented(id: str, text: str, source: str, *options: str) -> Claim:
    """Make a claim from the service's public page or guides."""
    return Claim(id, "documented", text, source, options)


def likely(id: str, text: str, source: str, *options: str) -> Claim:
    """Make a claim that follows from the systems behind the service."""
    return Claim(id, "likely", text, source, options)


def assumed(id: str, text: str, *options: str, source: str = "the documents are silent") -> Claim:
    """Make a claim about a choice of the simulator."""
    return Claim(id, "assumed", text, source, options)


def unknown(id: str, text: str, *options: str, source: str = "not modelled") -> Claim:
    """Make a claim that is an open question."""
    return Claim(id, "unknown", text, source, options)
