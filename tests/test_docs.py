"""The tables in the docs name tests that exist: a claim without its test is found here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
FAULTS = TESTS.parent / "docs" / "faults.md"


def test_every_fault_has_its_tests() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.+) \|$", FAULTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 40
    for number, cell in rows:
        names = re.findall(r"`((?:\w+/)*test_\w+)\.(test_\w+)`", cell)
        assert names, f"row {number} names no test"
        for module, name in names:
            tree = ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8"))
            functions = {
                node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert name in functions, f"row {number}: no {module}.{name}"


def test_every_page_is_listed() -> None:
    docs = TESTS.parent / "docs"
    pages = {page.stem for page in docs.glob("*.md")} - {"index"} | {"errors/index", "decisions/index"}
    tables = re.findall(r"```{toctree}\n(.*?)```", (docs / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    contents = {line for table in tables for line in table.splitlines() if line and not line.startswith(":")}
    assert contents == pages
    listed = re.findall(r"^- \[.+\]\((.+)\.md\): .+$", (docs / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(pages)
