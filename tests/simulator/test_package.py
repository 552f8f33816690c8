"""Names that the package exports, and modules that it must not import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import aiofluence.simulator as package

HOME = Path(package.__file__).parent
ALLOWED = {"aiofluence.http.messages", "aiofluence.errors"}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module or "")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"{file.name} reaches out of the package"
    return found


@pytest.mark.parametrize("file", sorted(HOME.glob("*.py")), ids=lambda file: str(file.name))
def test_the_simulator_imports_nothing_shared(file: Path) -> None:
    found = imports(file)
    assert {name for name in found if name.startswith("aiofluence")} <= ALLOWED
    assert not found & {"time", "cattrs", "anyio"}
    assert ("aiohttp" in found) == (file.name == "server.py")
    source = file.read_text(encoding="utf-8")
    assert "datetime.now" not in source
    assert "utcnow" not in source


def test_every_public_name_is_there() -> None:
    for name in package.__all__:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="nothing_such"):
        package.nothing_such  # noqa: B018


def test_the_server_is_loaded_only_when_asked_for() -> None:
    code = """
import sys, aiofluence.simulator
assert "aiofluence.simulator.server" not in sys.modules
aiofluence.simulator.SimulatorServer
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
