"""The table of claims, the page made from it, and the options that both name."""

from __future__ import annotations

from pathlib import Path

import attrs

from aiofluence.simulator import AnswerOptions, ClusterOptions, Profile, Provisioning, Simulator
from aiofluence.simulator.claims import CLAIMS
from aiofluence.simulator.claims.page import page

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
OWNERS = {owner.__name__: owner for owner in (AnswerOptions, Profile, ClusterOptions, Provisioning)}


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "python -m aiofluence.simulator.claims > docs/fidelity.md"
    )


def test_ids_are_unique_and_cells_are_plain() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    for claim in CLAIMS:
        assert claim.text, claim.id
        assert claim.source, claim.id
        assert not {"|", "\n"} & set(claim.text + claim.source), claim.id


def test_every_option_named_exists() -> None:
    simulator = Simulator()
    for claim in CLAIMS:
        for option in claim.options:
            owner, _, name = option.partition(".")
            if owner == "Simulator":
                assert hasattr(simulator, name), option
            else:
                assert name in attrs.fields_dict(OWNERS[owner]), option


def test_every_field_of_a_profile_has_a_claim() -> None:
    named = {option for claim in CLAIMS for option in claim.options}
    fields = {f"{name}.{field}" for name, owner in OWNERS.items() for field in attrs.fields_dict(owner)}
    assert fields - {"Profile.answers", "Profile.cluster", "Profile.provisioning"} <= named


def test_switches_of_likely_claims_are_on() -> None:
    likely, kind = Profile.of("likely"), Profile.of("kind")
    switched = {
        option.removeprefix("Profile.")
        for claim in CLAIMS
        for option in claim.options
        if claim.class_ == "likely" and option.startswith("Profile.")
    }
    assert all(getattr(likely, name) != getattr(kind, name) for name in switched)
