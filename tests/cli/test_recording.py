"""The moving picture of the demo in the README: that it shows what the demo shows now."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


def told(picture: str) -> set[str]:
    """The lines in it, without their numbers: a session that looks a moment later is no other story."""
    nodes = (node for node in ElementTree.fromstring(picture).iter() if node.tag.endswith("}text"))
    return {re.sub(r"\s*\d+", "#", "".join(node.itertext())) for node in nodes}


def test_the_recording_is_current() -> None:
    recording = runpy.run_path(str(ROOT / "docs" / "make_recording.py"))
    there = recording["PICTURE"].read_text(encoding="utf-8")
    assert told(there) == told(recording["draw"]()), "run `python docs/make_recording.py`"
    assert "left running#" in told(there)
    assert len(there) < 60_000
    assert "(docs/_static/demo.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")
