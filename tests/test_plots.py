"""The pictures in the docs are drawn from the tables beside them, and are not older than these."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent


def _plots() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plots", ROOT / "benchmarks" / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLOTS = _plots()


@pytest.mark.parametrize("plot", PLOTS.PLOTS, ids=lambda plot: plot.name)
def test_a_picture_is_current_and_shown(plot: object) -> None:
    name, page = plot.name, plot.page  # type: ignore[attr-defined]
    drawn = PLOTS.draw(plot)
    ElementTree.fromstring(drawn)
    assert len(list(plot.bars())) >= 4  # type: ignore[attr-defined]
    assert (ROOT / "docs" / "_static" / f"{name}.svg").read_text(encoding="utf-8") == drawn, (
        "run: python benchmarks/plots.py"
    )
    assert f"_static/{name}.svg" in (ROOT / "docs" / page).read_text(encoding="utf-8")
