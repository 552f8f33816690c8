"""The table of claims names its probes, the simulator confirms itself, and the file has no canary."""

from __future__ import annotations

import json
import re
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from aiofluence.conformance.finding import Finding, Notes, Observations, Verdict
from aiofluence.conformance.probe import Level
from aiofluence.conformance.run import PROBES
from aiofluence.simulator import Simulator, SimulatorWire
from aiofluence.simulator.__main__ import main
from aiofluence.simulator.claims import CLAIMS
from aiofluence.simulator.observed import read_observations

from ..harness import VIRTUAL
from .bench import give_history, ids, observe, observe_simulator
from .deviating import DEVIATIONS, KEY, OPTION, PLAN, Deviating


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL


GUESSES = [claim for claim in CLAIMS if claim.class_ in ("assumed", "likely")]


def test_each_guess_names_its_probe() -> None:
    assert [claim.id for claim in GUESSES if bool(claim.probe) == bool(claim.why_not)] == []
    cheap = [claim for claim in GUESSES if claim.probe.startswith(("free:", "refunded:"))]
    assert len(cheap) >= 0.6 * len(GUESSES)


def test_the_table_is_the_registry() -> None:
    labels: dict[str, str] = {}
    for probe in PROBES:
        for claim in probe.claims:
            labels.setdefault(claim, probe.label)
    assert labels == {claim.id: claim.probe for claim in CLAIMS if claim.probe}
    assert len({probe.name for probe in PROBES}) == len(PROBES)


OPEN = {
    "read-only-key": "the key is neither read-only nor expired",
    "failure-rate": "the account has had fewer than 20 instances",
    "early-ip": "the account has nothing that shows it",
    "login-users": "the machines' systems and providers suggest the same user",
    "one-hour-reserve": "the account has nothing that shows it",
    "half-cents": "no amount of the cheapest plan ends in half a cent",
    "last-per-pod": "only one pod was shown at a time",
    "racing-pods": "only one pod was shown at a time",
    "openapi": "the service publishes no OpenAPI document at the known paths",
}
"""Claims with a probe that the simulator of the test does not show, with the reason."""


async def test_the_simulator_confirms_itself() -> None:
    simulator = Simulator()
    await give_history(simulator)
    before = simulator.spent()
    seen = await observe_simulator(simulator, Level.PAID)
    assert ids(seen) == set()
    undecided = {f.claim: f.why for f in seen.findings if f.verdict is Verdict.UNDECIDED}
    probed = {claim.id for claim in CLAIMS if claim.probe} - {"connection-later"}  # a slow poll misses it
    assert {claim: why for claim, why in undecided.items() if claim in probed} == OPEN
    assert all(undecided[claim.id] == claim.why_not for claim in CLAIMS if claim.why_not)
    assert sorted(instance.name for instance in simulator.live()) == ["new", "new-vm"]
    assert simulator.spent() - before < 3  # the rented hour, and those of the two that run on


async def test_many_failures() -> None:
    simulator = Simulator(seed=1)
    simulator.add_ended(30)
    for instance in simulator.instances()[:9]:
        instance.state = type(instance.state).FAILED
        instance.summary = None
    seen = await observe_simulator(simulator, Level.FREE)
    assert ids(seen) == {"failure-rate"}


@pytest.mark.parametrize("deviations", [(), DEVIATIONS])
async def test_the_file_has_no_canary(deviations: tuple[str, ...], tmp_path: Path) -> None:
    service = Deviating(deviations, canary="canary")
    seen = await observe(service, Level.PAID, key=KEY)
    file = tmp_path / "observations.json"
    seen.write(file)
    text = file.read_text()
    assert "canary" not in text
    secrets = [KEY, PLAN, OPTION, *(row.id for row in service.rows), *(row.name for row in service.rows)]
    assert [secret for secret in secrets if secret in text] == []
    assert not re.search(r"500\.\d|[0-9a-f]{8}-[0-9a-f]{4}-|\d+\.\d+\.\d+\.\d+|@|service-1-", text)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(seen.contradicted) == len(deviations)


def test_an_unwritable_file_leaves_no_part(tmp_path: Path) -> None:
    (folder := tmp_path / "observations.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        Observations.of("free", Notes(), ()).write(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_texts_of_the_account_are_replaced() -> None:
    notes = Notes()
    keys = {"GET /gpu/instances/ $[].alpha-box": 1, "$.b54672e2-0a8b-490f-81ee-7d5a868471fc[]": 2}
    notes.compare("fields", {}, {**keys, "$.name": ["alpha-box is busy", "at 10.1.2.3", 7, None]})
    notes.undecided("me", "alpha-box")
    seen = Observations.of("free", notes, {"alpha-box", "ab"})
    assert [finding.observed for finding in seen.findings] == [
        {"GET /gpu/instances/ $[].…": 1, "$.…[]": 2, "$.name": ["… is busy", "at …", 7, None]},
        None,
    ]
    assert seen.findings[1].why == "…"


def test_the_strongest_verdict_stays() -> None:
    notes = Notes()
    notes.compare("cents", "cents", "finer")
    notes.compare("cents", "cents", "cents")
    notes.undecided("cents", "later")
    assert list(notes) == [Finding("cents", Verdict.CONTRADICTED, "cents", "finer")]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "other", "findings": []}', '{"format": 5}', "\udcff"]
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "observations.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"observations\.json"):
        Simulator.from_observations(file)
    with pytest.raises(SystemExit):
        main(["--observations", str(file)])


def test_claims_without_an_option_are_named(tmp_path: Path) -> None:
    file = tmp_path / "observations.json"
    findings = [
        {"claim": "redirect", "verdict": "contradicted", "observed": {"status": 308}},
        {"claim": "backoff", "verdict": "contradicted", "observed": {"pauses": [5, 5]}},
        {"claim": "list-lag", "verdict": "contradicted", "observed": "long"},
        {"claim": "cents", "verdict": "confirmed", "observed": "cents"},
    ]
    file.write_text(json.dumps({"format": "aiofluence observations 1", "findings": findings}))
    observed = read_observations(file)
    assert observed.profile == {"answers": {"redirect_status": 308}}
    assert observed.left_out == ("backoff", "list-lag")
    simulator = Simulator.from_observations(file, balance=7)
    assert simulator.profile.answers.redirect_status == 308
    assert simulator.balance == Decimal(7)


class WithOpenApi(SimulatorWire):
    """The simulator, with an OpenAPI document."""

    def __init__(self, simulator: Simulator, document: Any) -> None:
        super().__init__(simulator)
        self.document = document

    async def send(self, request: Any) -> Any:
        reply = await super().send(request)
        if request.path != "/gpu/api-docs/openapi.json":
            return reply
        return type(reply)(200, reply.headers, json.dumps(self.document).encode())


async def test_openapi() -> None:
    paths: dict[str, Any] = {
        "/gpu/plans/": ["get"],
        "/gpu/plans/vms": ["get"],
        "/gpu/plans/baremetal": ["get"],
        "/gpu/default-images/": ["get"],
        "/gpu/instances/": ["get", "post"],
        "/gpu/instances/{instance_id}": ["get", "put", "delete"],
        "/gpu/instances/{instance_id}/logs": ["get"],
        "/gpu/instances/{instance_id}/events": ["get"],
    }
    for folder in ("vms", "baremetal"):
        paths[f"/gpu/instances/{folder}"] = ["get", "post"]
        paths[f"/gpu/instances/{folder}/{{instance_id}}"] = ["get", "put", "delete"]
    limits: dict[str, dict[str, int]] = {
        "name": {"minLength": 1, "maxLength": 25},
        "image": {"maxLength": 255},
        "startup_command": {"maxLength": 2048},
        "expose": {"minItems": 1, "maxItems": 10},
        "environment": {"maxItems": 64},
    }
    document: dict[str, Any] = {
        "paths": {path: {method: {} for method in methods} for path, methods in paths.items()},
        "components": {"schemas": {"Deploy": {"properties": limits}}},
    }
    same = await observe(WithOpenApi(Simulator(), document), Level.FREE)
    assert "openapi" not in ids(same)
    assert next(f for f in same.findings if f.claim == "openapi").verdict is Verdict.CONFIRMED
    limits["name"]["maxLength"] = 63
    limits["spot"] = {}
    document["paths"]["/gpu/quota"] = {
        "get": {"description": "The rate limit is 10 requests per minute. Fine."}
    }
    del document["paths"]["/gpu/plans/vms"]
    other = await observe(WithOpenApi(Simulator(), document), Level.FREE)
    (found,) = other.contradicted
    assert found.claim == "openapi"
    assert {key: found.observed[key] for key in ("missing", "more", "fields", "rate")} == {
        "missing": ["GET /gpu/plans/vms"],
        "more": ["GET /gpu/quota"],
        "fields": ["spot"],
        "rate": ["The rate limit is 10 requests per minute"],
    }
    assert found.observed["limits"]["name"] == {"minLength": 1, "maxLength": 63}
