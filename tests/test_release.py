"""A release: checks of the tag, the workflows, and the names that need `versionadded`."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from tools.public_names import FIRST_RELEASE, documented, undated
from tools.release import problems

yaml: Any = importlib.import_module("yaml")
ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-24\n\n### Added\n\n- A name.\n"


def tree(
    folder: Path,
    *,
    version: str = "0.2.0",
    changelog: str = CHANGELOG,
    install: str = "",
    first_release: bool = True,
) -> Path:
    for name in ("aiofluence", "docs", "tools"):
        (folder / name).mkdir()
    if first_release:
        (folder / "tools" / "first_release.txt").touch()
    (folder / "aiofluence" / "config.py").write_text(f'VERSION: Final = "{version}"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    (folder / "docs" / "install.md").write_text(install)
    return folder


def test_a_tree_that_is_ready_has_no_problems(tmp_path: Path) -> None:
    assert problems(tree(tmp_path), "v0.2.0") == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": "0.3.0"}, "the tag is v0.2.0"),
        ({"version": "next"}, "is not a version"),
        ({"changelog": CHANGELOG.replace("## [Unreleased]\n\n", "")}, r"must be \[Unreleased\]"),
        ({"changelog": CHANGELOG.replace("d]\n", "d]\n\n- Late.\n", 1)}, "must be empty"),
        ({"changelog": CHANGELOG.replace(" - 2026-12-24", "")}, "and the date"),
        ({"changelog": CHANGELOG.partition("### Added")[0]}, "the section of 0.2.0 is empty"),
        ({"install": "It is not on PyPI yet."}, "docs/install.md"),
        ({"first_release": False}, "python -m tools.public_names"),
    ],
)
def test_an_unfinished_release_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    assert re.search(problem, "\n".join(problems(tree(tmp_path, **change), "v0.2.0")))


def test_the_version_of_this_tree_is_valid() -> None:
    assert problems(ROOT, None) == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_workflows_are_pinned_and_have_few_rights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow: dict[str, Any] = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert granted == ({"publish": {"id-token": "write"}} if path.name == "release.yml" else {})
    for used in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"\./.+|[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", used), used
    # A tag's name is text of another person's choice: it must reach a shell as a variable only.
    assert not re.search(r"run:.*\$\{\{", text)


def test_the_publishing_job_runs_no_code_of_ours() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))["jobs"]
    assert [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert set(jobs["publish"]["needs"]) == {"everything", "build"}


def test_later_names_say_since_when() -> None:
    """Without a list, no release is out, and all names belong to the first one."""
    if FIRST_RELEASE.exists():
        assert undated(documented(), set(FIRST_RELEASE.read_text("utf-8").split())) == []


def test_a_new_name_without_a_version_is_found() -> None:
    names = [
        ("a.Old", ""),
        ("a.Old.new", ""),
        ("a.New", ".. versionadded:: 2"),
        ("a.New.go", ""),
        ("a.f", ""),
    ]
    assert undated(iter(names), {"a.Old"}) == ["a.Old.new", "a.f"]
