"""The rules of docs/architecture.md, checked on the syntax tree of every module.

Import directions, the home of each dependency, clocks, docstrings and lengths; no behaviour. The last test
feeds each check a package that breaks its rule.
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

# --- the tables: a new package or exception is a line here, with its reason ------------------------------

# A package imports from earlier rows only. A row may hold several packages: they do not import each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("display",),
    ("models",),
    ("errors", "inventory"),
    ("background",),
    ("http",),
    ("config",),
    ("resources",),
    ("polling",),
    ("lifecycle",),
    ("batch", "tail"),
    ("runtime",),
    ("session",),
    ("signals",),
    ("public",),
    ("",),  # aiofluence/__init__.py
    ("conformance",),
    ("sync", "dask", "cli", "pytest_plugin"),
    ("__main__",),
)
# Only these plug the simulator in.
USES_SIMULATOR = {"cli", "pytest_plugin"}

# The simulator is a second opinion on the contract: what it shared with the client would hide its mistakes.
SIMULATOR_MAY_IMPORT = {
    "errors": None,  # all of it
    "http.messages": {"Request", "Reply", "Timeout", "Wire"},
}
HOMES = {
    "aiohttp": {"http.aiohttp_wire", "simulator.server"},
    "cattrs": {"http.codec"},
    "cattr": set[str](),  # the old name
    "backoff": {"http.retry"},
    "orjson": {"http.messages"},
    "rich": {"cli"},
    "pytest": {"pytest_plugin"},
    "IPython": set[str](),  # asked for by name, where a notebook has loaded it: `batch.progress_bar`
    "distributed": {"dask"},
    "dask": {"dask"},
    "redis": {"http.redis_rate_limit"},
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
    "http.dates": "a date in Retry-After, when no answer of the service has had a Date",
    "lifecycle.file_locks": "sleeps for milliseconds while another process rewrites the journal",
}

DOCSTRING_LINES = range(2, 9)  # two to five are asked for; a drawing may take a few more
DOCSTRING_MAY_BE_LONGER = {"errors"}  # it draws the whole tree
LONGEST_MODULE = 400  # at 350 think again
MAY_BE_LONGER = {"session"}  # the public facade: signatures and docstrings

# --- reading the house ------------------------------------------------------------------------------------


@attrs.frozen
class Import:
    """An import: `target` is a module, `name` the imported name (None: the module itself)."""

    target: str
    name: str | None
    line: int


@attrs.frozen
class Module:
    """A parsed module. `name` is relative to the package: `errors`, `tail.logs`, `` for `__init__`."""

    name: str
    is_package: bool
    source: str
    tree: ast.Module
    nodes: list[ast.AST]


Runtime = dict[str, Module]


def read_house(folder: Path) -> Runtime:
    house: Runtime = {}
    for path in sorted(folder.rglob("*.py")):
        parts = list(path.relative_to(folder).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, str(path))
        house[name] = Module(name, is_package, source, tree, list(ast.walk(tree)))
    return house


def imports(module: Module, house: Runtime) -> Iterator[Import]:
    """Every import anywhere in the module, under TYPE_CHECKING and inside functions too.

    Targets inside the package come relative to it, with a leading dot: `.errors`, `.` for the package.
    """
    for node in module.nodes:
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


def inner_imports(module: Module, house: Runtime) -> Iterator[Import]:
    for item in imports(module, house):
        if item.target.startswith("."):
            yield attrs.evolve(item, target=item.target[1:])


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def place(name: str) -> int | None:
    """The row of a module's package in ORDER."""
    package = name.partition(".")[0]
    return next((row for row, packages in enumerate(ORDER) if package in packages), None)


# --- the checks: each returns what is wrong, in words -------------------------------------------------------


def check_order(house: Runtime) -> list[str]:
    wrong = []
    for module in house.values():
        package = module.name.partition(".")[0]
        if package == "simulator":
            wrong += _check_simulator(module, house)
            continue
        mine = place(module.name)
        if mine is None:
            wrong.append(f"{module.name}: which package is below it? Add it to ORDER")
            continue
        for item in inner_imports(module, house):
            where = f"{module.name or '__init__'}:{item.line} imports {item.target or '__init__'}"
            theirs = item.target.partition(".")[0]
            if theirs == "simulator":
                if package not in USES_SIMULATOR:
                    wrong.append(f"{where}: only {sorted(USES_SIMULATOR)} plug the simulator in")
            elif theirs == package:
                continue
            elif (row := place(item.target)) is None:
                wrong.append(f"{where}, which is not in ORDER")
            elif row >= mine:
                wrong.append(f"{where}: {package or '__init__'} is not above {theirs or '__init__'}")
    return wrong


def _check_simulator(module: Module, house: Runtime) -> list[str]:
    wrong = []
    for item in inner_imports(module, house):
        if within(item.target, "simulator"):
            continue
        allowed = SIMULATOR_MAY_IMPORT.get(item.target, set())
        if allowed is not None and item.name not in allowed:
            what = f"{item.target or '__init__'}{f'.{item.name}' if item.name else ''}"
            wrong.append(f"{module.name}:{item.line} imports {what}: not shared with the client")
    return wrong


def check_cycles(house: Runtime) -> list[str]:
    graph = {
        module.name: {item.target for item in inner_imports(module, house)} - {module.name}
        for module in house.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["import cycle: " + " → ".join(name or "__init__" for name in error.args[1])]
    return []


def check_homes(house: Runtime) -> list[str]:
    return [
        f"{module.name}:{item.line} imports {item.target}, whose home is {sorted(homes) or 'nowhere'}"
        for module in house.values()
        for item in imports(module, house)
        if (homes := HOMES.get(item.target.split(".")[0])) is not None
        and not any(within(module.name, home) for home in homes)
    ]


def check_clocks(house: Runtime) -> list[str]:
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
    for node in module.nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                origin[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                origin[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}", node.lineno
    for node in module.nodes:
        tail: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            tail.insert(0, inner.attr)
            inner = inner.value
        if tail and isinstance(inner, ast.Name) and inner.id in origin:
            yield ".".join([origin[inner.id], *tail]), inner.lineno


def check_docstrings(house: Runtime) -> list[str]:
    wrong = []
    for module in house.values():
        lines = [line for line in (ast.get_docstring(module.tree) or "").splitlines() if line.strip()]
        name = module.name or "__init__"
        if len(lines) < DOCSTRING_LINES.start:
            wrong.append(f"{name}: opens with {len(lines)} lines of docstring; say what it is and is not")
        elif len(lines) >= DOCSTRING_LINES.stop and module.name not in DOCSTRING_MAY_BE_LONGER:
            wrong.append(f"{name}: its docstring has {len(lines)} lines; two to five say what it is")
    return wrong


def check_lengths(house: Runtime) -> list[str]:
    return [
        f"{module.name or '__init__'}: {length} lines; no module has over {LONGEST_MODULE}"
        for module in house.values()
        if (length := len(module.source.splitlines())) > LONGEST_MODULE and module.name not in MAY_BE_LONGER
    ]


CHECKS: tuple[Callable[[Runtime], list[str]], ...] = (
    check_order,
    check_cycles,
    check_homes,
    check_clocks,
    check_docstrings,
    check_lengths,
)


# --- the tests ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house() -> Runtime:
    """The package as it is: read once."""
    return read_house(PACKAGE)


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_keeps_its_rules(check: Callable[[Runtime], list[str]], house: Runtime) -> None:
    assert len(house) > 10, "these are not all the modules"
    wrong = check(house)
    assert not wrong, "\n".join(["", *wrong])


BROKEN = [
    (check_order, {"errors.py": "from aiofluence.session import x"}, "errors is not above session"),
    (check_order, {"errors.py": "def f():\n    from . import session"}, "errors is not above session"),
    (
        check_order,
        {"http/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import aiofluence.session"},
        "http is not above session",
    ),
    (check_order, {"tail/a.py": "from ..batch import x", "batch/__init__.py": ""}, "is not above batch"),
    (check_order, {"__init__.py": "from .cli import main", "cli/__init__.py": ""}, "is not above cli"),
    (check_order, {"models/a.py": "import aiofluence"}, "models is not above __init__"),
    (check_order, {"helpers.py": ""}, "which package is below it?"),
    (check_order, {"session.py": "from .simulator import x"}, "plug the simulator in"),
    (check_order, {"simulator/a.py": "from ..http.messages import Request, Call"}, "http.messages.Call"),
    (check_order, {"simulator/a.py": "from ..http import messages"}, "not shared"),
    (check_order, {"simulator/a.py": "from ..models import Container"}, "not shared"),
    (check_cycles, {"models/a.py": "from .b import x", "models/b.py": "from . import a"}, "a → "),
    (check_homes, {"session.py": "import aiohttp"}, "whose home is"),
    (check_homes, {"config.py": "def f():\n    from aiohttp.web import x"}, "whose home is"),
    (check_homes, {"models/a.py": "from cattrs.gen import x"}, "whose home is ['http.codec']"),
    (check_clocks, {"config.py": "import time\ntime.monotonic()"}, "time.monotonic"),
    (check_clocks, {"config.py": "from time import sleep as s"}, "time.sleep"),
    (check_clocks, {"config.py": "import datetime as d\nx = d.datetime.now(d.UTC)"}, "datetime.datetime.now"),
    (check_clocks, {"a.py": "from datetime import datetime\nx = datetime.now()"}, "datetime.datetime.now"),
    (check_docstrings, {"config.py": '"""One line."""'}, "opens with 1 lines"),
    (check_docstrings, {"config.py": '"""' + "line\n" * 9 + '"""'}, "has 9 lines"),
    (check_lengths, {"config.py": "x = 1\n" * 401}, "401 lines"),
]


@pytest.mark.parametrize(("check", "files", "complaint"), BROKEN)
def test_each_check_sees_what_it_is_for(
    check: Callable[[Runtime], list[str]], files: dict[str, str], complaint: str, tmp_path: Path
) -> None:
    sound = {
        "__init__.py": "from .session import Session",
        "errors.py": "",
        "http/__init__.py": "",
        "http/messages.py": "from ..errors import FluenceError",
        "http/codec.py": "import cattrs\nfrom .messages import Reply",
        "session.py": "import asyncio\nfrom .http import messages\nasyncio.get_running_loop().time()",
        "simulator/__init__.py": "from ..http.messages import Request\nfrom ..errors import NoReplyError",
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
