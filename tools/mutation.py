"""Mutation tests of the core: `nox -s mutation -- 300`. docs/mutants.md has the figures and survivors.

The operators of cosmic-ray make the mutants. All tests are collected once. For each mutant, a fork runs the
tests that execute the mutated line, the quickest first. Only a copy of the checkout is changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import gc
import hashlib
import os
import pickle
import re
import shutil
import signal
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import coverage
import parso
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "mutants.md"
CAUGHT_AT_LEAST = 0.92
SLOW = 2.0
"""Seconds of CPU. A test that takes longer judges no mutant."""

WIRE = "http/test_retry http/test_transport http/test_wire_direct http/test_aiohttp_wire"
DEPLOY = (
    "lifecycle/test_deploy polling/test_evidence test_money lifecycle/test_minimum_runtime"
    " lifecycle/test_custody lifecycle/test_journal batch/test_relaunch batch/test_launch"
)
JOURNAL = (
    "lifecycle/test_journal_file lifecycle/test_journal_at_work lifecycle/test_journal test_owner"
    " lifecycle/test_sweep test_money"
)
WAIT = (
    "polling/test_schedule polling/test_poller lifecycle/test_instance polling/test_evidence"
    " lifecycle/test_minimum_runtime"
)
TAIL = (
    "tail/test_pod_log tail/test_overlap tail/test_stitch tail/test_repeats tail/test_windows tail/test_end"
    " tail/test_follow tail/test_valves tail/test_stitch_property"
)
TESTS = {
    "http/retry": f"{WIRE} polling/test_evidence",
    "http/transport": WIRE,
    "http/rate_limit": f"http/test_rate_limit {WIRE}",
    "http/aiohttp_wire": WIRE,
    "http/messages": (
        "http/test_messages test_errors resources/test_rows resources/test_account test_session"
        f" test_hostile {WIRE}"
    ),
    "http/dates": f"http/test_messages test_hostile {WIRE}",
    "http/error_mapping": f"http/test_messages test_errors test_hostile {WIRE}",
    "http/redaction": "http/test_messages test_hostile test_secrets",
    "lifecycle/deploy": DEPLOY,
    "lifecycle/deploy_attempt": DEPLOY,
    "polling/evidence": f"{DEPLOY} {WAIT}",
    "lifecycle/shared_list": DEPLOY,
    "lifecycle/claims": f"{JOURNAL} {DEPLOY}",
    "lifecycle/journal": JOURNAL,
    "lifecycle/journal_entries": f"{JOURNAL} {DEPLOY}",
    "lifecycle/journal_file": JOURNAL,
    "lifecycle/file_locks": JOURNAL,
    "lifecycle/sweep": JOURNAL,
    "lifecycle/custody": f"lifecycle/test_custody lifecycle/test_instance {DEPLOY} {JOURNAL}",
    "lifecycle/minimum_runtime": WAIT,
    "lifecycle/wait": f"{WAIT} lifecycle/test_custody lifecycle/test_crash_loop",
    "polling/poller": WAIT,
    "polling/estimate": f"polling/test_estimate {WAIT}",
    "polling/schedule": WAIT,
    "polling/state": WAIT,
    "tail/pod_log": TAIL,
    "tail/overlap": TAIL,
    "tail/stitch": TAIL,
    "tail/repeats": TAIL,
    "tail/known": TAIL,
    "tail/truncation": TAIL,
    "tail/pace": TAIL,
}
"""Test files that exercise a module. They use virtual time or local sockets, so machine load does no harm."""

COMPARISONS = "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot IsNot_Is"
ARITHMETIC = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul BitAnd_BitOr"
OPERATORS = {
    "AddNot",
    "ExceptionReplacer",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_Delete_USub",
    "ZeroIterationForLoop",
    *(f"ReplaceComparisonOperator_{pair}" for pair in COMPARISONS.split()),
    *(f"ReplaceBinaryOperator_{pair}" for pair in ARITHMETIC.split()),
}
"""Operators of cosmic-ray. The others give the same program (`is` for `==`), or an obvious TypeError."""

# --- mutants ----------------------------------------------------------------------------------------------


class RemoveStatement(Operator):
    """Replace a call, an attribute assignment, `raise`, or `return` without a value by `pass`."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "simple_stmt" and self._does_something(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        statement = node.children[0]
        first = statement.get_first_leaf()
        # The number of lines stays the same, so that no other line moves.
        lines = statement.get_code(include_prefix=False).count("\n")
        node.children[0] = parso.python.tree.Keyword("pass", first.start_pos, "\n" * lines + first.prefix)
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()

    @staticmethod
    def _does_something(statement: Any) -> bool:
        code = statement.get_code(include_prefix=False)
        if code.startswith("log."):  # log records are for people, and tests need not notice
            return False
        try:
            (parsed,) = ast.parse(code.replace("await ", "")).body
        except SyntaxError:
            return False
        match parsed:
            case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Return(None):
                return True
            case ast.Assign([target, *_]):
                return isinstance(target, ast.Attribute | ast.Subscript)
        return False


@attrs.frozen
class Mutant:
    """A change at one place. `lines` are those of the statement that contains it."""

    module: str
    where: str
    old: str
    new: str
    code: str = attrs.field(repr=False)
    lines: range

    def __str__(self) -> str:
        return f"`{self.module}`, {self.where}: `{self.old}` → `{self.new}`"


Choice = tuple[Operator, int]


def places(module: str, source: str, seed: int) -> Iterator[tuple[str, list[Choice], int]]:
    """Yield each mutable place: a key that other edits do not change, the choices, and the line."""
    lines = source.splitlines()
    tree = get_ast(source)
    operators = [
        get_operator(name)() for name in sorted(operator_names()) if name.removeprefix("core/") in OPERATORS
    ]
    found: dict[tuple[int, int], list[Choice]] = defaultdict(list)
    for operator in [*operators, RemoveStatement()]:
        spots = (spot for node in ast_nodes(tree) for spot in operator.mutation_positions(node))
        for occurrence, (start, _) in enumerate(spots):
            if not lines[start[0] - 1].startswith("*,", start[1]):  # keyword-only parameters, not a product
                found[start].append((operator, occurrence))
    seen: dict[str, int] = defaultdict(int)
    for (line, column), choices in sorted(found.items()):
        text = f"{seed} {module} {lines[line - 1].strip()} {column}"
        seen[text] += 1
        yield hashlib.sha256(f"{text} {seen[text]}".encode()).hexdigest(), choices, line


def code_of(source: str, choices: list[Choice], first: int) -> str:
    """Return the source with one of the choices, from `first` on, that is valid Python."""
    for choice in (*choices[first:], *choices[:first]):
        code = mutate_code(source, *choice)
        with contextlib.suppress(SyntaxError):
            ast.parse(code or "=")
            return str(code)
    return source


def make(module: str, source: str, choices: list[Choice], first: int, line: int) -> Mutant:
    code = code_of(source, choices, first)
    removed, added = [], []
    for each in difflib.ndiff(source.splitlines(), code.splitlines()):
        if each.startswith("- "):
            removed.append(each[2:])
        elif each.startswith("+ "):
            added.append(each[2:])
    around = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and node.end_lineno and node.lineno <= line <= node.end_lineno
    ]
    begin = max((node.lineno for node in around), default=line)  # a decorator belongs to no statement
    names = [
        node.name
        for node in around
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    where = f"`{'.'.join(names)}`" if names else "top level"
    return Mutant(module, where, plain(removed), plain(added), code, range(begin, line + 1))


def plain(lines: list[str]) -> str:
    """Join lines without comments, and without the blanks that cosmic-ray leaves."""
    text = " ".join(" ".join(re.sub(r"  ?# .*", "", line) for line in lines).split())
    return re.sub(r"([\[(]) ", r"\1", text)


def choose(count: int, seed: int, only: list[str]) -> list[Mutant]:
    """Return mutants of the first `count` places by the order of their keys, one for each."""
    sources = {name: (ROOT / "aiofluence" / f"{name}.py").read_text("utf-8") for name in TESTS}
    drawn = [
        (key, module, choices, line)
        for module, source in sources.items()
        for key, choices, line in places(module, source, seed)
    ]
    print(f"{len(drawn)} places in {len(sources)} modules; {count} of them, seed {seed}")
    mutants = [
        make(module, sources[module], choices, int(key, 16) % len(choices), line)
        for key, module, choices, line in sorted(drawn, key=lambda each: each[0])[:count]
        if not only or module in only
    ]
    mutants = [mutant for mutant in mutants if mutant.old or mutant.new]  # no choice there is valid Python
    order = list(TESTS)
    return sorted(mutants, key=lambda mutant: (order.index(mutant.module), mutant.lines.start))


# --- running ----------------------------------------------------------------------------------------------


def in_fork(work: Callable[[], bool], limit: float) -> bool:
    """Return the result of `work` in a child; False if the child dies or takes more than `limit` seconds."""
    child = os.fork()
    if child == 0:
        os.setsid()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in range(2 if "MUTATION_DEBUG" not in os.environ else 0):
            os.dup2(silence, stream + 1)
        code = 1
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.01)


def compiled(source: str) -> types.CodeType:
    code: types.CodeType = compile(source, "", "exec", dont_inherit=True)
    return code


def functions_changed(old: types.CodeType, new: types.CodeType) -> list[tuple[Any, Any]] | None:
    """Return the functions whose code differs; None if code outside of functions differs."""
    nested = [[each for each in code.co_consts if isinstance(each, types.CodeType)] for code in (old, new)]
    own = [
        (
            code.co_code,
            code.co_names,
            [each for each in code.co_consts if not isinstance(each, types.CodeType)],
        )
        for code in (old, new)
    ]
    if repr(own[0]) != repr(own[1]) or len(nested[0]) != len(nested[1]):
        return None
    changed: list[tuple[Any, Any]] = []
    for before, after in zip(*nested, strict=True):
        if before == after:
            continue
        if before.co_flags & 1:  # CO_OPTIMIZED: a function
            changed.append((before, after))
            continue
        inner = functions_changed(before, after)  # a class body
        if inner is None:
            return None
        changed += inner
    return changed


def put_in_place(changed: list[tuple[Any, Any]]) -> bool:
    """Replace the code of loaded functions. Return False if that is impossible."""
    known = [each for each in gc.get_objects() if isinstance(each, types.FunctionType)]
    for before, after in changed:
        found = [each for each in known if each.__code__ == before]
        if not found:
            return False
        try:
            for function in found:
                function.__code__ = after
        except ValueError:  # the new code has another number of free variables
            return False
    return True


def run(session: pytest.Session, items: list[pytest.Item], seconds: dict[str, float]) -> bool:
    """Run `items` until one fails. Return True if all passed."""
    for number, item in enumerate(items):
        following = items[number + 1] if number + 1 < len(items) else None
        # This signal ends the process by default, and so an endless loop.
        signal.setitimer(signal.ITIMER_PROF, 1.5 + 8 * seconds.get(item.nodeid, SLOW))
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return False
    return True


@attrs.define
class Profile:
    """The lines that each test executes, and its duration."""

    lines: dict[str, dict[int, list[str]]] = attrs.field(factory=dict)
    """Ids of the tests, by module and line."""
    seconds: dict[str, float] = attrs.field(factory=dict)
    failed: list[str] = attrs.field(factory=list)

    def measure(self, session: pytest.Session, items: list[pytest.Item], package: Path, file: Path) -> bool:
        measuring = coverage.Coverage(data_file=None, include=[f"{package}/*"], config_file=False)
        measuring.start()
        for item, following in zip(items, [*items[1:], None], strict=True):
            for loaded in [each for name, each in sys.modules.items() if name.startswith("aiofluence")]:
                for value in vars(loaded).values():
                    if callable(clear := getattr(value, "cache_clear", None)):
                        clear()  # a cached function is executed by the first test only
            measuring.switch_context(item.nodeid)
            began, before = time.process_time(), session.testsfailed
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.seconds[item.nodeid] = time.process_time() - began
            if session.testsfailed != before:
                self.failed.append(item.nodeid)
        measuring.stop()
        for module in TESTS:
            lines = self.lines.setdefault(module, {})
            for line, tests in measuring.get_data().contexts_by_lineno(str(package / f"{module}.py")).items():
                lines[line] = [*lines.get(line, ()), *tests]
        file.write_bytes(pickle.dumps(self))
        return True

    def tests(self, mutant: Mutant, *, executed: bool) -> list[str]:
        """Return the tests that execute the mutated lines, or else all of the module, quickest first."""
        files = tuple(f"tests/{name}.py::" for name in TESTS[mutant.module].split())
        lines = self.lines[mutant.module]
        found = {test for line in mutant.lines for test in lines.get(line, ())} if executed else self.seconds
        chosen = [test for test in found if test.startswith(files) and test not in self.failed]
        return sorted((test for test in chosen if self.seconds[test] < SLOW), key=self.seconds.__getitem__)


class Sorted:
    """A pytest plugin that selects these tests, in this order."""

    def __init__(self, tests: list[str]) -> None:
        self._tests = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self._tests), key=lambda item: self._tests[item.nodeid]
        )


def run_anew(file: Path, mutant: Mutant, tests: list[str]) -> bool:
    """Import everything again, for a mutant outside of functions."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("aiofluence", "tests", "harness", "conftest"):
            del sys.modules[name]
    file.write_text(mutant.code, "utf-8")
    os.utime(file, (1, 1))  # Python compares the date of a source with its compiled module
    files = list(dict.fromkeys(test.split("::")[0] for test in tests))
    return pytest.main([*OPTIONS, *files], plugins=[Sorted(tests)]) == pytest.ExitCode.OK


OPTIONS = ("-x", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "--assert=plain", "--timeout=60")


class Runner:
    """A pytest plugin that runs mutants in place of tests."""

    def __init__(self, mutants: list[Mutant], folder: Path, profile: Path) -> None:
        self._mutants = mutants
        self._folder = folder
        self._profile = profile
        self.survivors: list[Mutant] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Failed("the tests cannot be collected")
        package = self._folder / "aiofluence"
        profile = pickle.loads(self._profile.read_bytes()) if self._profile.exists() else Profile()
        new = [item for item in session.items if item.nodeid not in profile.seconds]
        if new:
            print(f"measuring {len(new)} tests", flush=True)
            in_fork(lambda: profile.measure(session, new, package, self._profile), 7200)
            profile = pickle.loads(self._profile.read_bytes())
        for test in profile.failed:
            print(f"fails without a mutant, and is left out: {test}")
        items = {item.nodeid: item for item in session.items}
        explained = PAGE.read_text("utf-8") if PAGE.exists() else ""
        for mutant in self._mutants:
            file = package / f"{mutant.module}.py"
            source = file.read_text("utf-8")
            times = file.stat()
            changed = functions_changed(
                *(compile(text, "", "exec", dont_inherit=True) for text in (source, mutant.code))
            )
            tests = profile.tests(mutant, executed=bool(changed))
            began = time.monotonic()

            def work(
                file: Path = file, mutant: Mutant = mutant, tests: list[str] = tests, changed: Any = changed
            ) -> bool:
                if changed and put_in_place(changed):
                    return run(session, [items[test] for test in tests if test in items], profile.seconds)
                return run_anew(file, mutant, tests)

            survives = in_fork(work, 60 + 20 * sum(profile.seconds[test] for test in tests))
            file.write_text(source, "utf-8")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            word = "caught"
            if survives:
                self.survivors.append(mutant)
                word = "explained" if str(mutant) in explained else "SURVIVED"
            print(f"{word:9} {time.monotonic() - began:5.1f} s {len(tests):3} {mutant}", flush=True)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("count", type=int, nargs="?", default=300, help="mutants to draw (default: 300)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[], metavar="MODULE", help="such as lifecycle/wait")
    parser.add_argument("--like", default="", metavar="TEXT", help="only mutants whose description has it")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    parser.add_argument(
        "--profile", type=Path, help="file that keeps the measurements of the tests between runs"
    )
    given = parser.parse_args()
    mutants = [each for each in choose(given.count, given.seed, given.only) if given.like in str(each)]
    if given.list:
        print(*mutants, sep="\n")
        return
    if hasattr(os, "nice"):
        os.nice(15)
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        folder = Path(name).resolve()
        for each in ("aiofluence", "tests", "docs"):
            shutil.copytree(
                ROOT / each, folder / each, ignore=shutil.ignore_patterns("__pycache__", "_build")
            )
        for file in ROOT.glob("*.*"):
            if file.is_file():
                shutil.copy(file, folder)
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        os.environ |= {"PYTHONPATH": str(folder), "HYPOTHESIS_PROFILE": "mutation"}
        runner = Runner(mutants, folder, given.profile.resolve() if given.profile else folder / "profile")
        modules = list(dict.fromkeys(mutant.module for mutant in mutants))
        files = sorted({f"tests/{name}.py" for module in modules for name in TESTS[module].split()})
        pytest.main([*OPTIONS, *files], plugins=[runner])
    print()
    for module in modules:
        drawn = sum(mutant.module == module for mutant in mutants)
        left = sum(mutant.module == module for mutant in runner.survivors)
        print(f"| `{module}` | {drawn} | {drawn - left} |")
    explained = PAGE.read_text("utf-8") if PAGE.exists() else ""
    equivalent = explained.partition("## Not detected")[0]
    caught, same = (
        len(mutants) - len(runner.survivors),
        sum(str(each) in equivalent for each in runner.survivors),
    )
    share = caught / max(1, len(mutants) - same)
    print(f"caught {caught} of {len(mutants)}, of which {same} are equivalent: {share:.1%} of the others")
    unexplained = sum(str(mutant) not in explained for mutant in runner.survivors)
    if unexplained or share < CAUGHT_AT_LEAST:
        sys.exit(f"{unexplained} survivors are not explained in {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
