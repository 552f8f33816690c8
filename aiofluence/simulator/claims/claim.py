"""One claim about the service, and the functions with which the tables beside this module write it.

A claim is text and names. It decides nothing: a test compares the names with the options that exist.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

ClaimClass: TypeAlias = Literal["documented", "likely", "assumed", "unknown"]


@attrs.frozen
class Claim:
    """One statement of what the service does.

    Attributes:
        id: name of the claim, unique.
        class_: documented (the service's page or guides), likely (the systems behind it, or their users),
            assumed (silence, or a contradiction), unknown (a question).
        text: what the simulator does, or for an unknown claim the question.
        source: where it comes from.
        options: what switches it: `Profile.x`, `ClusterOptions.x`, `Provisioning.x` or `Simulator.x`.
    """

    id: str
    class_: ClaimClass
    text: str
    source: str
    options: tuple[str, ...] = ()


def documented(id: str, text: str, source: str, *options: str) -> Claim:
    """A claim of the service's public page or guides."""
    return Claim(id, "documented", text, source, options)


def likely(id: str, text: str, source: str, *options: str) -> Claim:
    """A claim that follows from the systems behind the service."""
    return Claim(id, "likely", text, source, options)


def assumed(id: str, text: str, *options: str, source: str = "the documents are silent") -> Claim:
    """A choice of ours."""
    return Claim(id, "assumed", text, source, options)


def unknown(id: str, text: str, *options: str, source: str = "not modelled") -> Claim:
    """A question."""
    return Claim(id, "unknown", text, source, options)
