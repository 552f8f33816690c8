"""The docs agree with the code and with each other: tests, names, variables, figures, commands."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import aiofluence

from .test_architecture import ORDER

PACKAGE = Path(aiofluence.__file__).parent
TESTS = Path(__file__).parent
ROOT = TESTS.parent
DOCS = ROOT / "docs"
FAULTS = DOCS / "faults.md"
REFERENCE = DOCS / "reference"
EXTENDING = (DOCS / "extending.md").read_text(encoding="utf-8")
FIGURES: list[dict[str, Any]] = tomllib.loads((DOCS / "figures.toml").read_text(encoding="utf-8"))["figure"]


def text_of(page: str) -> str:
    """The text of a page with single blanks, so that a line break in a sentence does not matter."""
    return re.sub(r"(?<=\S)\n(?=[^\n|])", " ", (ROOT / page).read_text(encoding="utf-8"))


def test_every_fault_has_its_tests() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.+) \|$", FAULTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 40
    for number, cell in rows:
        names = re.findall(r"`((?:\w+/)*test_\w+)\.(test_\w+)`", cell)
        assert names, f"row {number} names no test"
        for module, name in names:
            source = (TESTS / f"{module}.py").read_text(encoding="utf-8")
            found = re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)
            assert found, f"row {number}: no {module}.{name}"


def test_every_page_is_listed() -> None:
    pages = {page.stem for page in DOCS.glob("*.md")} - {"index"}
    pages |= {f"{folder}/index" for folder in ("decisions", "errors", "reference")}
    tables = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    contents = {line for table in tables for line in table.splitlines() if line and not line.startswith(":")}
    assert contents == pages
    listed = re.findall(r"^- \[.+\]\((.+)\.md\): .+$", (DOCS / "llms.txt").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize("module", ["aiofluence", "aiofluence.simulator"])
def test_each_public_name_is_on_one_page(module: str) -> None:
    listed: list[str] = []
    for page in REFERENCE.glob("*.md"):
        current = ""
        for directive, name in re.findall(
            r"^\.\. ([\w:]+):: ([\w.]+)", page.read_text("utf-8"), re.MULTILINE
        ):
            if directive == "currentmodule":
                current = name
            elif current == module and "." not in name:
                listed.append(name)
    assert sorted(listed) == sorted(import_module(module).__all__)


def test_the_index_names_each_page() -> None:
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in REFERENCE.glob("*.md")} - {"index"}
    assert set(re.findall(r"^- .*\((\w+)\.md\)", index, re.MULTILINE)) == pages
    assert set(re.findall(r"^(\w+)$", index, re.MULTILINE)) == pages


def test_every_variable_is_documented() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if "dask" not in path.parts
    )
    used = set(re.findall(r"\bFLUENCE_[A-Z_]+", code))
    page = (REFERENCE / "options.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(FLUENCE_[A-Z_]+)` \|", page, re.MULTILINE)) == used


def test_only_one_page_says_how_to_install() -> None:
    """A release then changes that page alone. The README's two commands are for a clone."""
    pages = {"README.md", "CONTRIBUTING.md"} | {
        f"docs/{page.relative_to(DOCS)}" for page in DOCS.rglob("*.md")
    }
    found = {
        page: [line for line in (ROOT / page).read_text("utf-8").splitlines() if is_install(line)]
        for page in sorted(pages)
        if "_build" not in page
    }
    first = ".venv/bin/pip install '.[cli]' && .venv/bin/aiofluence demo"
    assert {page for page, lines in found.items() if lines} == {
        "docs/install.md",
        "README.md",
        "CONTRIBUTING.md",
    }
    for page in ("README.md", "CONTRIBUTING.md"):
        (line,) = found[page]
        assert first in line


@pytest.mark.parametrize("section", EXTENDING.split("\n## ")[1:], ids=lambda section: section.split(":")[0])
def test_an_addition_names_its_files(section: str) -> None:
    title, _, text = section.partition("\n")
    rows = re.findall(r"^\| `(\S+)` \|.*\| `(.+)` \|$", text, re.MULTILINE)
    assert len(rows) == int(re.findall(r"(\d+) files", title)[0])
    for file, example in rows:
        assert example in (ROOT / file).read_text(encoding="utf-8"), f"{file} lacks {example}"


def test_a_kind_is_in_no_other_file() -> None:
    kind = re.compile(r"\bBareMetalSpec\b|\bBAREMETAL\b|\"baremetal\"")
    found = {
        f"aiofluence/{p.relative_to(PACKAGE)}"
        for p in PACKAGE.rglob("*.py")
        if kind.search(p.read_text("utf-8"))
    }
    assert found <= set(re.findall(r"^\| `(\S+)` \|", EXTENDING, re.MULTILINE))


def is_install(line: str) -> bool:
    return re.search(r"pip install\b.*(aiofluence|['\"]?\.\[)", line) is not None


def test_the_architecture_is_the_order_of_imports() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = [set(re.findall(r"`(\w+)`", cell)) for cell in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE)]
    order = [set(row) for row in reversed(ORDER) if row not in (("",), ("__main__",))]
    assert rows == [*order, {"simulator"}]
    named = set(re.findall(r"`(\w+/\w+)`", page))
    assert named
    assert {name for name in named if not (PACKAGE / f"{name}.py").exists()} == set()


def test_the_picture_shows_modules_that_exist() -> None:
    picture = (DOCS / "_static" / "architecture.svg").read_text(encoding="utf-8")
    texts = re.findall(r'class="([ns])">(.+)</text>', picture)
    package = ""
    shown: dict[str, list[str]] = {}
    for size, text in texts:
        package = text if size == "n" else package
        if size == "s" and package in {"batch", "lifecycle", "polling", "tail", "http"}:
            shown.setdefault(package, []).extend(text.split(" · "))
    assert len(shown) == 5
    lost = [f"{p}.{m}" for p, names in shown.items() for m in names if not (PACKAGE / p / f"{m}.py").exists()]
    assert lost == []


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure["name"])
def test_a_figure_is_the_same_everywhere(figure: dict[str, Any]) -> None:
    value = Decimal(figure["value"])
    for page, sentence in figure["pages"]:
        before, _, after = sentence.partition("{}")
        shown = re.findall(rf"{re.escape(before)}([\d,]*\.?\d+){re.escape(after)}", text_of(page))
        assert shown, f"{page} lacks: {sentence}"
        for number in shown:
            digits = Decimal(number.replace(",", ""))
            assert round(value, -int(digits.as_tuple().exponent)) == digits, f"{page}: {sentence}: {number}"
    if rows := figure.get("rows"):
        assert len(re.findall(rows[1], (ROOT / rows[0]).read_text(encoding="utf-8"), re.MULTILINE)) == value
    module, _, name = figure["source"].partition(".DeployPolicy.")
    if name:
        assert getattr(import_module(module).DeployPolicy(), name) == value
    elif "/" in figure["source"]:
        assert (ROOT / figure["source"].split()[0]).exists()
