"""Verdicts about claims, and the file that keeps them.

A finding holds shapes and behaviours: types, statuses, orders, seconds, texts of the service. `Observations`
removes every text that the account has shown before it writes them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

Json: TypeAlias = Any

FORMAT: Final = "aiofluence observations 1"
HIDDEN: Final = "…"
_SHORTEST: Final = 3
"""Length from which a text of the account is removed from the file. Shorter texts identify nothing."""
_LONG: Final = 8
"""Length from which such a text is removed also inside a word."""


class Verdict(StrEnum):
    """Outcome of a probe for one claim."""

    CONFIRMED = "confirmed"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@attrs.frozen
class Finding:
    """Verdict about one claim.

    Attributes:
        claim: id of the claim in docs/fidelity.md.
        expected: the claim as JSON. None if undecided.
        observed: the same about the service. None if undecided.
        why: reason why the claim is undecided.
    """

    claim: str
    verdict: Verdict
    expected: Json = None
    observed: Json = None
    why: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return the finding as JSON, without empty attributes."""
        shape = {"claim": self.claim, "verdict": self.verdict.value}
        if self.verdict is Verdict.UNDECIDED:
            return shape | {"why": self.why}
        return shape | {"expected": self.expected, "observed": self.observed}


class Notes:
    """Findings of one run. The strongest verdict about a claim stays: contradicted, then confirmed."""

    def __init__(self) -> None:
        self._found: dict[str, Finding] = {}

    def compare(self, claim: str, expected: Json, observed: Json) -> None:
        """Note that the claim is confirmed, or contradicted where `observed` differs."""
        verdict = Verdict.CONFIRMED if expected == observed else Verdict.CONTRADICTED
        self._note(Finding(claim, verdict, expected, observed))

    def judge(self, claim: str, holds: bool, expected: Json, observed: Json) -> None:
        """Note a verdict that is no plain comparison, such as a duration within limits."""
        verdict = Verdict.CONFIRMED if holds else Verdict.CONTRADICTED
        self._note(Finding(claim, verdict, expected, observed))

    def undecided(self, claim: str, why: str) -> None:
        """Note the reason why a claim is undecided."""
        self._note(Finding(claim, Verdict.UNDECIDED, why=why))

    def _note(self, finding: Finding) -> None:
        old = self._found.get(finding.claim)
        if old is None or _RANK[finding.verdict] >= _RANK[old.verdict]:
            self._found[finding.claim] = finding

    def __contains__(self, claim: str) -> bool:
        return claim in self._found

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())


_RANK: Final = {Verdict.UNDECIDED: 0, Verdict.CONFIRMED: 1, Verdict.CONTRADICTED: 2}


@attrs.frozen
class Observations:
    """The findings of one run, as the file has them.

    Attributes:
        level: highest level that was run.
        findings: one finding for each claim, in the order of docs/fidelity.md.
    """

    level: str
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, level: str, notes: Iterable[Finding], account: Collection[str]) -> Observations:
        """Return the findings without the texts of the account: secrets, ids, names, addresses, amounts."""
        hide, names = _hider(account), frozenset(account)
        found = {finding.claim: finding for finding in notes}
        return cls(
            level,
            tuple(
                attrs.evolve(
                    finding,
                    observed=_without(finding.observed, hide, names),
                    why=hide(finding.why),
                )
                for finding in found.values()
            ),
        )

    def count(self, verdict: Verdict) -> int:
        """Count the findings with a verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    @property
    def contradicted(self) -> tuple[Finding, ...]:
        """The findings in which the service differs from a claim."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.CONTRADICTED)

    def to_json(self) -> dict[str, Json]:
        """Return the content of the file."""
        return {
            "format": FORMAT,
            "level": self.level,
            "findings": [finding.to_json() for finding in self.findings],
        }

    def write(self, path: Path) -> None:
        """Write the file with mode 0600, in place of a file that exists.

        Raises:
            OSError: the file cannot be written.
        """
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(self.to_json(), file, indent=1, ensure_ascii=False)
                file.write("\n")
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_ADDRESS: Final = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b|\S+@\S+|https?://\S+")


def _hider(account: Collection[str]) -> Any:
    texts = sorted((text for text in account if len(text) >= _SHORTEST), key=len, reverse=True)
    known = re.compile("|".join(map(_as_pattern, texts))) if texts else None

    def hide(text: str) -> str:
        for pattern in (known, _UUID, _ADDRESS):
            if pattern is not None:
                text = pattern.sub(HIDDEN, text)
        return text

    return hide


def _as_pattern(text: str) -> str:
    """Return a pattern for `text`: a short one is a word of its own, since a verdict may be `oldest`."""
    pattern = re.escape(text)
    return pattern if len(text) >= _LONG else rf"(?<![^\W_]){pattern}(?![^\W_])"


def _without(value: Json, hide: Any, names: frozenset[str]) -> Json:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, Mapping):
        return {_key_without(name, names): _without(inner, hide, names) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without(inner, hide, names) for inner in value]
    return value


def _key_without(name: str, names: frozenset[str]) -> str:
    """Return a key of our own, such as `body.name missing`, without parts that the account has named."""
    return re.sub(
        r"[^.\s\[\]]+", lambda part: HIDDEN if part[0] in names else part[0], _UUID.sub(HIDDEN, name)
    )
