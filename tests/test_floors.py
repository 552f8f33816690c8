"""The house rules that a reader relies on, checked on the syntax tree of every module.

What a module may import (docs/design.md draws the floors), where each dependency lives, and which clock is
read. Not a check of behaviour. The last test feeds the checks a house that breaks each rule once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs
import pytest

import aiofluence

PACKAGE = Path(aiofluence.__file__).parent

# --- the tables: a new module, a new edge or a new exception is a line here, with its reason --------------

# The floor of a module, or of a whole folder. The longest match counts.
FLOORS = {
    "models": 0,
    "errors": 1,
    "inventory": 1,
    "protocol": 2,
    "redaction": 2,
    "refusals": 2,
    "convert": 2,
    "readers": 2,
    "scalars": 2,
    "retry": 2,
    "settings": 2,
    "owner": 2,
    "flight": 3,
    "observed": 3,
    "wire": 3,
    "gate": 3,
    "redis_rate": 3,
    "transport": 3,
    "resources": 4,
    "lifecycle": 5,
    "tail": 5,
    "house": 6,
    "following": 6,
    "recovery": 6,
    "session": 6,
    "signals": 7,
    "public": 7,
    "progress": 7,
    "sync": 7,
    "pytest_plugin": 7,
    "cli": 7,
    "dask": 7,
    "__main__": 7,
    "": 7,  # aiofluence/__init__.py
}
TOP = 7

# Inside a floor, a module may import only what stands to the left of it in the same line. A folder's name
# stands for all of its modules.
IN_FLOOR = (
    ("redaction", "refusals", "protocol", "convert"),
    ("redaction", "protocol"),
    ("readers", "scalars", "convert"),
    ("protocol", "settings"),
    ("protocol", "retry"),
    ("flight", "observed", "wire", "transport"),
    ("gate", "transport"),
    ("gate", "redis_rate"),
    (
        "lifecycle.tasks",
        "lifecycle.estimate",
        "lifecycle.schedule",
        "lifecycle.agenda",
        "lifecycle.evidence",
        "lifecycle.seen",
        "lifecycle.subject",
        "lifecycle.queues",
        "lifecycle.watcher",
        "lifecycle.watch",
        "lifecycle.crash_loop",
        "lifecycle.loops",
        "lifecycle.spending",
        "lifecycle.minimum",
        "lifecycle.wait",
        "lifecycle.intents",
        "lifecycle.file_locks",
        "lifecycle.journal_file",
        "lifecycle.journal_lines",
        "lifecycle.late_notes",
        "lifecycle.other_runs",
        "lifecycle.journal",
        "lifecycle.clean_up",
        "lifecycle.custody",
        "lifecycle.policy",
        "lifecycle.shared_list",
        "lifecycle.deploy_attempt",
        "lifecycle.deploy",
        "lifecycle.sweep",
        "lifecycle.recovery",
        "lifecycle.launch",
        "lifecycle.arguments",
        "lifecycle.outage",
        "lifecycle.timeline",
        "lifecycle.report",
        "lifecycle.job",
        "lifecycle.tally",
        "lifecycle.terms",
        "lifecycle.trials",
        "lifecycle.preparation",
        "lifecycle.batch",
        "lifecycle.one",
        "lifecycle.many",
    ),
    ("tail.answer", "tail.overlap", "tail.known", "tail.sequence", "tail.stitch", "tail.logs"),
    ("tail.answer", "tail.overlap", "tail.probe", "tail.sequence"),
    ("tail.answer", "tail.pace", "tail.stitch"),
    ("tail.known", "tail.together", "tail.stitch"),
    ("tail.known", "tail.recount", "tail.repeats", "tail.sequence"),
    ("tail.answer", "tail.repeats"),
    ("tail.overlap", "tail.repeats"),
    ("tail.windows", "tail.logs"),
    ("tail.overlap", "tail.together"),
    ("tail.sequence", "tail.scope", "tail.stitch"),
    ("tail.iterator", "tail.follow", "tail.events"),
    ("tail.iterator", "tail.follow", "tail.logs", "tail.merged"),
    ("lifecycle.tasks", "tail.merged"),
    ("lifecycle.crash_loop", "tail.events"),
    ("lifecycle.evidence", "tail.follow"),
    ("lifecycle.evidence", "tail.events"),
    ("lifecycle.evidence", "tail.logs"),
    ("lifecycle.evidence", "tail.merged"),
    ("house", "following", "session"),
    ("house", "recovery", "session"),
    ("signals", "public", ""),
    ("progress", "public"),
    ("sync.thread", "sync.door", "sync.mirrors", "sync.objects", "sync.session"),
    ("signals", "public"),
    ("", "pytest_plugin"),
    ("", "cli", "__main__"),
    ("dask.network", "dask.worker", "dask.cluster"),
)
# Folders whose modules are equals: any direction, though never in a circle.
FREE_INSIDE = {"models", "resources", "cli", "simulator"}

# The simulator is a second opinion on the contract: what it shared with the client would hide its mistakes.
SIMULATOR_MAY_IMPORT = {
    "errors": None,  # all of it
    "protocol": {"Request", "Reply", "Timeout", "Wire"},
}
# Only the top floor plugs the simulator in.

HOMES = {
    "aiohttp": {"wire", "observed", "simulator.server"},
    "cattrs": {"convert"},
    "cattr": set[str](),  # the old name
    "backoff": {"retry"},
    "orjson": {"protocol"},
    "rich": {"cli"},
    "pytest": {"pytest_plugin"},
    "typer": {"cli"},
    "IPython": set[str](),  # asked for by name, where a notebook has loaded it: `progress`
    "distributed": {"dask"},
    "dask": {"dask"},
    "redis": {"redis_rate"},
}

WALL_CLOCKS = {
    *(f"time.{name}{ns}" for name in ("time", "monotonic", "perf_counter") for ns in ("", "_ns")),
    "time.sleep",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
# "module": "reason"
WALL_CLOCK_ALLOWED: dict[str, str] = {
    "refusals": "a date in Retry-After, when no answer of the service has had a Date",
    "lifecycle.file_locks": "sleeps for milliseconds while another process rewrites the journal",
}

DOCSTRING_LINES = range(2, 9)  # two to five are asked for; a drawing may take a few more
DOCSTRING_MAY_BE_LONGER = {"errors"}  # it draws the whole tree
LONGEST_MODULE = 400  # at 350 think again

# --- reading the house ------------------------------------------------------------------------------------


@attrs.frozen
class Import:
    """One imported thing: `target` is a module, `name` what is taken from it (None: the module itself)."""

    target: str
    name: str | None
    line: int


@attrs.frozen
class Module:
    """One parsed module. `name` is relative to the package: `errors`, `tail.logs`, `` for `__init__`."""

    name: str
    is_package: bool
    source: str
    tree: ast.Module


House = dict[str, Module]


def read_house(folder: Path) -> House:
    house: House = {}
    for path in sorted(folder.rglob("*.py")):
        parts = list(path.relative_to(folder).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        house[name] = Module(name, is_package, source, ast.parse(source, str(path)))
    return house


def imports(module: Module, house: House) -> Iterator[Import]:
    """Every import anywhere in the module, under TYPE_CHECKING and inside functions too.

    Targets inside the package come relative to it, with a leading dot: `.errors`, `.` for the package.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(_relative(alias.name), None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, module)
            for alias in node.names:
                inner = f"{base.rstrip('.')}.{alias.name}"
                if base.startswith(".") and inner[1:] in house:
                    yield Import(inner, None, node.lineno)  # `from . import errors`: a module, not a name
                else:
                    yield Import(base, alias.name, node.lineno)


def _relative(dotted: str) -> str:
    first, _, rest = dotted.partition(".")
    return f".{rest}" if first == "aiofluence" else dotted


def _base(node: ast.ImportFrom, module: Module) -> str:
    if node.level == 0:
        return _relative(node.module or "")
    parts = module.name.split(".") if module.name else []
    up = node.level - (1 if module.is_package else 0)
    return "." + ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def inner_imports(module: Module, house: House) -> Iterator[Import]:
    for item in imports(module, house):
        if item.target.startswith("."):
            yield attrs.evolve(item, target=item.target[1:])


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def floor(name: str) -> int | None:
    matches = [key for key in FLOORS if key and within(name, key)]
    if not name:
        return FLOORS[""]
    return FLOORS[max(matches, key=len)] if matches else None


def drawn(importer: str, target: str) -> bool:
    """Whether the edge inside one floor is drawn in the tables above."""
    for folder in FREE_INSIDE:
        if within(importer, folder) and within(target, folder):
            return True
    # A folder's __init__ gathers what the folder offers.
    if importer and target.startswith(f"{importer}."):
        return True
    for row in IN_FLOOR:
        left = [place for place, name in enumerate(row) if within(target, name)]
        right = [place for place, name in enumerate(row) if within(importer, name)]
        if left and right and left < right:
            return True
    return False


# --- the checks: each returns what is wrong, in words -------------------------------------------------------


def check_floors(house: House) -> list[str]:
    wrong = []
    for module in house.values():
        if within(module.name, "simulator"):
            wrong += _check_simulator(module, house)
            continue
        mine = floor(module.name)
        if mine is None:
            wrong.append(f"{module.name}: which floor is it on? Add it to FLOORS in {Path(__file__).name}")
            continue
        for item in inner_imports(module, house):
            where = f"{module.name or '__init__'}:{item.line} imports {item.target or '__init__'}"
            if within(item.target, "simulator"):
                if mine < TOP:
                    wrong.append(f"{where}: only the top floor plugs the simulator in")
                continue
            theirs = floor(item.target)
            if theirs is None:
                wrong.append(f"{where}, which is on no floor")
            elif theirs > mine:
                wrong.append(f"{where}: floor {mine} must not look up to floor {theirs}")
            elif theirs == mine and not drawn(module.name, item.target):
                wrong.append(f"{where}: this direction inside floor {mine} is not drawn in IN_FLOOR")
    return wrong


def _check_simulator(module: Module, house: House) -> list[str]:
    wrong = []
    for item in inner_imports(module, house):
        if within(item.target, "simulator"):
            continue
        allowed = SIMULATOR_MAY_IMPORT.get(item.target, set())
        if allowed is not None and item.name not in allowed:
            what = f"{item.target or '__init__'}{f'.{item.name}' if item.name else ''}"
            wrong.append(f"{module.name}:{item.line} imports {what}: not shared with the client")
    return wrong


def check_cycles(house: House) -> list[str]:
    graph = {
        module.name: {item.target for item in inner_imports(module, house)} - {module.name}
        for module in house.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["import cycle: " + " → ".join(name or "__init__" for name in error.args[1])]
    return []


def check_homes(house: House) -> list[str]:
    return [
        f"{module.name}:{item.line} imports {item.target}, whose home is {sorted(homes) or 'nowhere'}"
        for module in house.values()
        for item in imports(module, house)
        if (homes := HOMES.get(item.target.split(".")[0])) is not None
        and not any(within(module.name, home) for home in homes)
    ]


def check_clocks(house: House) -> list[str]:
    return [
        f"{module.name}:{line} reads {clock}: the event loop is the only clock"
        for module in house.values()
        if not within(module.name, "cli") and module.name not in WALL_CLOCK_ALLOWED
        for clock, line in _foreign_names(module)
        if clock in WALL_CLOCKS
    ]


def _foreign_names(module: Module) -> Iterator[tuple[str, int]]:
    """Every dotted name that starts at an import, spelt out: `dt.now` becomes `datetime.datetime.now`."""
    origin: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                origin[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                origin[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node.lineno
    for node in ast.walk(module.tree):
        tail: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            tail.insert(0, inner.attr)
            inner = inner.value
        if tail and isinstance(inner, ast.Name) and inner.id in origin:
            yield ".".join([origin[inner.id], *tail]), inner.lineno


def check_docstrings(house: House) -> list[str]:
    wrong = []
    for module in house.values():
        lines = [line for line in (ast.get_docstring(module.tree) or "").splitlines() if line.strip()]
        name = module.name or "__init__"
        if len(lines) < DOCSTRING_LINES.start:
            wrong.append(f"{name}: opens with {len(lines)} lines of docstring; say what it is and is not")
        elif len(lines) >= DOCSTRING_LINES.stop and module.name not in DOCSTRING_MAY_BE_LONGER:
            wrong.append(f"{name}: its docstring has {len(lines)} lines; two to five say what it is")
    return wrong


def check_lengths(house: House) -> list[str]:
    return [
        f"{module.name or '__init__'}: {length} lines; no module has over {LONGEST_MODULE}"
        for module in house.values()
        if (length := len(module.source.splitlines())) > LONGEST_MODULE
    ]


CHECKS: tuple[Callable[[House], list[str]], ...] = (
    check_floors,
    check_cycles,
    check_homes,
    check_clocks,
    check_docstrings,
    check_lengths,
)


# --- the tests ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house() -> House:
    """The package as it is: read once."""
    return read_house(PACKAGE)


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_keeps_its_rules(check: Callable[[House], list[str]], house: House) -> None:
    assert len(house) > 10, "these are not all the modules"
    wrong = check(house)
    assert not wrong, "\n".join(["", *wrong])


BROKEN = [
    (check_floors, {"errors.py": "from aiofluence.session import x"}, "must not look up to floor 6"),
    (check_floors, {"errors.py": "def f():\n    from . import session"}, "must not look up to floor 6"),
    (
        check_floors,
        {"convert.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aiofluence.session"},
        "floor 2 must not look up",
    ),
    (check_floors, {"tail/stitch.py": "from .logs import x", "tail/logs.py": ""}, "is not drawn"),
    (check_floors, {"__init__.py": "from .cli import main", "cli/__init__.py": ""}, "is not drawn"),
    (check_floors, {"models/a.py": "import aiofluence"}, "floor 0 must not look up to floor 7"),
    (check_floors, {"helpers.py": ""}, "which floor is it on?"),
    (check_floors, {"session.py": "from .simulator import x"}, "only the top floor"),
    (check_floors, {"simulator/a.py": "from ..protocol import Request, decipher"}, "protocol.decipher"),
    (check_floors, {"simulator/a.py": "from .. import protocol"}, "not shared"),
    (check_floors, {"simulator/a.py": "from ..models import Container"}, "not shared"),
    (check_cycles, {"models/a.py": "from .b import x", "models/b.py": "from . import a"}, "a → "),
    (check_homes, {"session.py": "import aiohttp"}, "whose home is"),
    (check_homes, {"gate.py": "def f():\n    from aiohttp.web import x"}, "whose home is"),
    (check_homes, {"models/a.py": "from cattrs.gen import x"}, "whose home is ['convert']"),
    (check_clocks, {"gate.py": "import time\ntime.monotonic()"}, "time.monotonic"),
    (check_clocks, {"gate.py": "from time import sleep as s"}, "time.sleep"),
    (check_clocks, {"gate.py": "import datetime as d\nx = d.datetime.now(d.UTC)"}, "datetime.datetime.now"),
    (check_clocks, {"gate.py": "from datetime import datetime\nx = datetime.now()"}, "datetime.datetime.now"),
    (check_docstrings, {"gate.py": '"""One line."""'}, "opens with 1 lines"),
    (check_docstrings, {"gate.py": '"""' + "line\n" * 9 + '"""'}, "has 9 lines"),
    (check_lengths, {"gate.py": "x = 1\n" * 401}, "401 lines"),
]


@pytest.mark.parametrize(("check", "files", "complaint"), BROKEN)
def test_each_check_sees_what_it_is_for(
    check: Callable[[House], list[str]], files: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    sound = {
        "__init__.py": "from .session import Session",
        "errors.py": "",
        "protocol.py": "from .errors import FluenceError",
        "convert.py": "import cattrs\nfrom .protocol import Reply",
        "session.py": "import asyncio\nfrom . import protocol\nasyncio.get_running_loop().time()",
        "simulator/__init__.py": "from ..protocol import Request\nfrom ..errors import NoReplyError",
    }
    docstring = '"""What it is,\nand what it is not."""\n'
    write_house(tmp_path, {name: docstring + text for name, text in sound.items()})
    assert check(read_house(tmp_path)) == []
    write_house(tmp_path, files)
    assert any(complaint in line for line in check(read_house(tmp_path)))


def write_house(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
