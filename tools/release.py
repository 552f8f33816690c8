"""Checks of the files that a release changes: `python -m tools.release v0.1.0`.

Without a tag, only the version is checked. docs/releasing.md has the steps.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .public_names import FIRST_RELEASE

ROOT = Path(__file__).parent.parent


def problems(root: Path, tag: str | None) -> list[str]:
    """Return the reasons why the tree must not be published under `tag`."""
    config = (root / "aiofluence" / "config.py").read_text("utf-8")
    found_version = re.search(r'^VERSION: Final = "(.*)"$', config, re.MULTILINE)
    version = found_version[1] if found_version else ""
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        return [f"aiofluence/config.py: VERSION {version!r} is not a version such as 0.1.0 or 0.1.0rc1"]
    if tag is None:
        return []
    found = [] if tag == f"v{version}" else [f"VERSION is {version}, the tag is {tag}"]
    sections = re.split(r"^## ", (root / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    if not titles or titles[0] != "[Unreleased]":
        found.append("CHANGELOG.md: the first section must be [Unreleased]")
    elif sections[0].partition("\n")[2].strip():
        found.append("CHANGELOG.md: [Unreleased] must be empty; move its lines to the section of the release")
    newest = re.fullmatch(r"\[(.+)\] - \d{4}-\d\d-\d\d", titles[1]) if len(titles) > 1 else None
    if newest is None or newest[1] != version:
        found.append(f"CHANGELOG.md: the second section must be '[{version}] - ' and the date")
    elif not sections[1].partition("\n")[2].strip():
        found.append(f"CHANGELOG.md: the section of {version} is empty")
    if "not on PyPI yet" in (root / "docs" / "install.md").read_text("utf-8"):
        found.append("docs/install.md says that aiofluence is not on PyPI yet")
    if not (root / "tools" / FIRST_RELEASE.name).exists():
        found.append("tools/first_release.txt is missing; run python -m tools.public_names")
    return found


if __name__ == "__main__":
    found = problems(ROOT, sys.argv[1] if len(sys.argv) > 1 else None)
    sys.exit("\n".join(found) or None)
