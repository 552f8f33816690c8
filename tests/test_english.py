"""The words that docs/glossary.md replaces, and riddles, are not in the package or the docs.

Checks words and the first word of docstrings. It cannot check that a sentence is clear.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import aiofluence

PACKAGE = Path(aiofluence.__file__).parent
ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if "_build" not in page.parts and page.name != "CHANGELOG.md"
)
MODULES = sorted(PACKAGE.rglob("*.py"))

BANNED = re.compile(
    r"\b(who(?:m)?ever|nobody|somebody|everybody|the one|of it|tells|stands|goes on|comes to"
    r"|crowds?|brisk|fences?|twins?|rooms?|house|worth)\b",
    re.IGNORECASE,
)
RIDDLES = {"What", "Who", "Whom", "Whose", "Whether", "One", "That", "Where", "How", "This", "Which"}
MAYBE_RIDDLE = re.compile(rf"['\"]\s*({'|'.join(RIDDLES)})\b")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text that may be wrong: of a page, or of the comments and strings of a module."""
    text = path.read_text(encoding="utf-8")
    if not BANNED.search(text):
        return  # tokens take long to read
    if path.suffix == ".md":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield from enumerate(token.string.splitlines(), token.start[0])


def banned(path: Path) -> list[str]:
    return [
        f"{path.name}:{number}: {found[0]!r} in: {line.strip()[:90]}"
        for number, line in prose(path)
        for found in BANNED.finditer(line)
    ]


def riddles(source: str, name: str) -> list[str]:
    """Docstrings that do not begin with an imperative or a noun phrase."""
    wrong: list[str] = []
    if not MAYBE_RIDDLE.search(source):
        return wrong  # a tree takes long to build
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").split(maxsplit=1)[:1]
            if first and first[0].strip(",.:") in RIDDLES:
                wrong.append(f"{name}:{getattr(node, 'lineno', 1)}: begins with {first[0]}")
    return wrong


def test_no_banned_words() -> None:
    assert [line for path in [*MODULES, *PAGES] for line in banned(path)] == []


def test_docstrings_name_their_object() -> None:
    wrong = [line for path in MODULES for line in riddles(path.read_text(encoding="utf-8"), path.name)]
    assert wrong == []


def test_the_checks_can_fail(tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text('"""A module."""\n# nobody looks\nx = "the one"\n')
    assert len(banned(module)) == 2
    assert riddles('def f():\n    """Whether it is so."""\n', "a.py") == ["a.py:1: begins with Whether"]
