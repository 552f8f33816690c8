"""The moving picture of the demo in the README: that it is what the demo shows now."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def test_the_recording_is_current_and_the_readme_shows_it() -> None:
    recording = runpy.run_path(str(ROOT / "docs" / "make_recording.py"))
    there = recording["PICTURE"].read_text(encoding="utf-8")
    assert there == recording["draw"](), "run `python docs/make_recording.py`"
    assert len(there) < 60_000
    told = "\n".join("".join(text.itertext()) for text in ElementTree.fromstring(there).iter())
    assert "left running  0" in told
    assert "(docs/_static/demo.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
