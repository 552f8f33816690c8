"""`aiofluence conformance` on a simulated cloud: levels, consent, limits of cost, and the file."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from aiofluence.simulator import Fault

from .conftest import Cloud


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "observations.json"


def test_free_level(cloud: Cloud, file: Path) -> None:
    done = cloud.ok("conformance", "--yes", "--output", file)
    assert done.out.splitlines()[0].split() == ["CLAIM", "VERDICT", "EXPECTED", "OBSERVED"]
    assert "redirect" in done.out
    assert "cost: nothing" in done.err
    assert "No reply" not in done.err
    assert " 0 contradicted" in done.out
    document = json.loads(file.read_text())
    assert (document["format"], document["level"]) == ("aiofluence observations 1", "free")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cloud.simulator.instances() == []
    assert cloud.ok("conformance", "--yes", "--output", file, "--json").json["level"] == "free"


def test_all_levels_end_what_they_rent(cloud: Cloud, file: Path) -> None:
    price = cloud.simulator.catalog.find("container").hourly
    done = cloud.ok("conformance", "--level", "paid", "--yes", "--max-cost", "5", "--output", file, "--json")
    verdicts = [finding["verdict"] for finding in done.json["findings"]]
    assert verdicts.count("confirmed") >= 80
    assert "contradicted" not in verdicts
    assert cloud.live() == []
    assert cloud.simulator.spent() == price
    assert f"planned cost: {price} USDC; at worst: {2 * price} USDC" in done.err
    assert f"aiofluence sweep --journal {file}.journal" in done.err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--level", "paid", "--yes", "--max-cost", "0.01"], "over --max-cost 0.01; nothing was run"),
        (["--level", "paid", "--yes"], "add --max-cost to --yes; nothing was run"),
        (["--level", "refunded", "--yes", "--max-cost", "lots"], "is not an amount of USDC"),
        ([], "this asks before each level: add --yes; nothing was run"),
        (["--yes", "--output", "/"], "--output: / cannot be written; nothing was run"),
        (["--yes", "--output", "/nowhere/x.json"], "/nowhere/x.json cannot be written; nothing was run"),
    ],
)
def test_refused_before_anything_runs(cloud: Cloud, file: Path, flags: list[str], problem: str) -> None:
    done = cloud.run("conformance", "--output", file, *flags)
    assert (done.code, done.out) == (2, "")
    assert problem in done.err
    assert cloud.simulator.instances() == []
    assert not file.exists()


def test_contradictions_reach_a_simulator(cloud: Cloud, file: Path) -> None:
    cloud.simulator.profile = cloud.simulator.profile.replace(unauthorised_status=401)
    done = cloud.run("conformance", "--yes", "--output", file)
    assert done.code == 1
    (row,) = [line for line in done.out.splitlines() if " contradicted " in line and "; " not in line]
    assert row.split()[:2] == ["wrong-key", "contradicted"]
    assert '"status": 401' in file.read_text()


def test_a_key_that_is_refused(cloud: Cloud, file: Path) -> None:
    cloud.simulator.fail("*", Fault.status(403, {"error": "Invalid key", "code": "forbidden"}), times=None)
    done = cloud.run("conformance", "--yes", "--output", file)
    assert done.code == 1
    assert "Invalid key" in done.err
    assert not file.exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_level_asks(cloud: Cloud, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\nn\n"))
    done = cloud.run("conformance", "--level", "paid", "--output", file)
    assert done.code == 1
    assert done.err.count("Go ahead?") == 2
    assert "The level refunded was not run." in done.err
    assert json.loads(file.read_text())["level"] == "free"
    assert cloud.simulator.instances() == []


def test_prices_that_rise_between_levels(cloud: Cloud, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Answers(Terminal):
        def readline(self, *_: object) -> str:  # type: ignore[override]
            plans = cloud.simulator.catalog.container_plans()
            for plan in plans:
                plan["plan"]["pricing"]["hour"] = 99.0
            cloud.simulator.fail("GET /gpu/plans/", Fault.body(plans), times=None)
            return "y\n"

    monkeypatch.setattr("sys.stdin", Answers())
    done = cloud.run("conformance", "--level", "refunded", "--max-cost", "9", "--output", file)
    assert done.code == 1
    assert "prices have risen" in done.err
    assert "nothing was deployed" in done.err
    assert cloud.simulator.instances() == []
