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
        options: names of the options that switch the behaviour: `Profile.x`, `AnswerOptions.x`, `ClusterOptions.x`,
            `Provisioning.x` or `Simulator.x`.
        probe: level and name of the first probe of `aiofluence conformance` that decides the claim.
        why_not: reason why no probe can decide the claim.
        observed: verdict on the running service, and its date. Empty if no file was sent in.
    """

    id: str
    class_: ClaimClass
    text: str
    source: str
    options: tuple[str, ...] = ()
    probe: str = ""
    why_not: str = ""
    observed: str = ""


def documented(id: str, text: str, source: str, *options: str, **decided: str) -> Claim:
    """Make a claim from the service's public page or guides."""
    return Claim(id, "documented", text, source, options, **decided)


def likely(id: str, text: str, source: str, *options: str, **decided: str) -> Claim:
    """Make a claim that follows from the systems behind the service."""
    return Claim(id, "likely", text, source, options, **decided)


def assumed(
    id: str, text: str, *options: str, source: str = "the documents are silent", **decided: str
) -> Claim:
    """Make a claim about a choice of the simulator."""
    return Claim(id, "assumed", text, source, options, **decided)


def unknown(id: str, text: str, *options: str, source: str = "not modelled", **decided: str) -> Claim:
    """Make a claim that is an open question."""
    return Claim(id, "unknown", text, source, options, **decided)
