# /// script
# dependencies = ["nox[uv]>=2026.2"]
# ///
"""Everything that must pass, as nox sessions: `pip install nox`, then `nox`.

Needs nothing but Python: no git, no node. nox itself fetches uv, which the lines above ask for. What each
session installs stands in pyproject.toml, under `[dependency-groups]`.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nox

# Without cached bytecode every process compiles the library, and pytest rewrites hypothesis and anyio, anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
# The interpreters our classifiers promise, and the one that runs nox: so one at least is always there.
PYTHONS = list(dict.fromkeys([*nox.project.python_versions(PYPROJECT), RUNNING]))
SERVERS = {"nginx-light": ("nginx",), "redis-server": ("redis-server", "valkey-server")}
OF_THE_SERVERS = ("tests/nginx", "tests/shared_rate", "tests/http/test_redis_rate_limit.py")
OF_THE_ENGINES = ("tests/engines",)
# They need large extras, or a real nginx or Redis.
ELSEWHERE = ("--ignore=tests/nginx", "--ignore=tests/shared_rate", "--ignore=tests/engines")
# What an interpreter can change: asyncio, signals, threads, processes, classes and their types, aiohttp.
# The session `thorough` runs everything on each of them.
OF_THE_INTERPRETER = tuple(
    f"tests/{name}"
    for name in (
        "cli/test_printable.py",
        "simulator/test_clock.py",
        "simulator/test_server.py",
        "simulator/test_wire.py",
        "http/test_codec.py",
        "test_errors.py",
        "test_exports.py",
        "http/test_rate_limit.py",
        "lifecycle/test_journal_file.py",
        "models/test_models.py",
        "test_owner.py",
        "http/test_messages.py",
        "test_session.py",
        "test_signals.py",
        "test_sync.py",
        "http/test_transport.py",
        "http/test_aiohttp_wire.py",
        "http/test_wire_direct.py",
    )
)
# They take a third of the time of these, and depend on the interpreter the least.
SLOW = (
    "--deselect=tests/test_sync.py::test_ctrl_c_at_any_line_loses_nothing",
    "--deselect=tests/simulator/test_wire.py::test_hundreds_of_launches_at_once",
)
# What a wheel can get wrong: names, files, entry points.
OF_THE_WHEEL = (
    "tests/simulator/test_package.py",
    "tests/test_exports.py",
    "tests/test_pytest_plugin.py",
)
# One process more than the two cores of CI, since some tests wait for children, servers and engines. Not two
# more: each first collects all tests, which takes 17 s of CPU time in a new checkout.
AT_ONCE = ("-n", "3", "--dist", "worksteal", "--durations", "15")
# Where every test takes seconds, no test waits behind a long one.
ONE_BY_ONE = ("-n", "4", "--maxschedchunk", "1")

nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
# An interpreter that is not on PATH is skipped with a word. Both defaults would be otherwise: nox fetches a
# missing interpreter from the network, and fails without it when CI is set.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False


def group(name: str) -> tuple[str, ...]:
    """The requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite, against the checkout. Arguments after `--` go to pytest.

    The interpreter that runs nox runs all tests, in one run: tests that wait leave the cores to the others.
    """
    if session.python == RUNNING:
        check_servers(session)
        session.install("-q", "-e", ".[cli,dask,redis]", *group("test"), *group("engines"))
        session.run("pytest", *AT_ONCE, *session.posargs)
    else:
        session.install("-q", "-e", ".[cli]", *group("test"))
        session.run("pytest", *OF_THE_INTERPRETER, *SLOW, *AT_ONCE, *session.posargs)


@nox.session(python=PYTHONS, default=False)
def thorough(session: nox.Session) -> None:
    """The whole suite on every interpreter, with many more random examples. For a release, or a doubt."""
    session.install("-q", "-e", ".[cli]", *group("test"))
    longer = {"HYPOTHESIS_PROFILE": "thorough"}
    session.run("pytest", *ELSEWHERE, *AT_ONCE, "--timeout", "3600", *session.posargs, env=longer)


@nox.session(default=False)
def servers(session: nox.Session) -> None:
    """Of the tests: behind a real nginx, and one rate for many processes on a real Redis."""
    check_servers(session)
    session.install("-q", "-e", ".[cli,redis]", *group("test"))
    session.run("pytest", *OF_THE_SERVERS, *ONE_BY_ONE, *session.posargs)


def check_servers(session: nox.Session) -> None:
    """Warn of a missing server, whose tests skip themselves. In CI that is an error."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    missing = [
        package
        for package, programs in SERVERS.items()
        if not any(shutil.which(program, path=path) for program in programs)
    ]
    if missing:
        need = f"not installed; on Debian: apt-get install {' '.join(missing)}"
        if "CI" in os.environ:
            session.error(need)
        session.warn(need)


@nox.session(default=False)
def engines(session: nox.Session) -> None:
    """Of the tests: other people's engines on the fleet, which are Dask, DBOS and Temporal."""
    session.install("-q", "-e", ".[dask]", *group("engines"), *group("test"))
    session.run("pytest", *OF_THE_ENGINES, *ONE_BY_ONE, *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """What calls, turns, waits and unclear deploys cost, beside what users would otherwise do. Not a test."""
    session.install("-q", "-e", ".[speed,redis]", *group("bench"), *group("test"))
    session.run("python", "benchmarks/call.py")
    session.run("python", "benchmarks/rate_limiter.py")
    session.run("python", "-m", "benchmarks.exactly_once", "200")
    session.run("python", "benchmarks/launch.py", "policies", "limits", "-n", "200")
    session.run("python", "-m", "benchmarks.tail")
    session.run("python", "-m", "benchmarks.shared_rate")
    session.run("python", "-m", "benchmarks.scale")


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Lines and branches that the suite reaches: at least `fail_under` in pyproject.toml. Twice its time."""
    session.install("-q", "-e", ".[cli]", *group("coverage"))
    session.run("coverage", "erase")
    session.run(
        "coverage", "run", "-m", "pytest", *ELSEWHERE, *AT_ONCE, "--timeout", "1200", *session.posargs
    )
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Can the tests of the core fail? Tries them on 300 mutants, or as many as stand after `--`."""
    session.install("-q", "-e", ".[cli]", *group("mutation"))
    session.run("python", "tools/mutation.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, and the small things that make diffs noisy. What can be mended by itself is, with `-- --fix`."""
    session.install("-q", *group("lint"))
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    files = [str(path) for path in text_files()]
    # These two mend what they find, and fail for having done so.
    session.run("trailing-whitespace-fixer", *files, log=False)
    session.run("end-of-file-fixer", *files, log=False)
    session.run("mixed-line-ending", "--fix=no", *files, log=False)
    session.run("check-toml", *(name for name in files if name.endswith(".toml")))
    session.run("check-yaml", *(name for name in files if name.endswith((".yaml", ".yml"))))
    session.run("bash", "-n", ".ci/run", external=True)
    if not os.access(".ci/run", os.X_OK):
        session.error(".ci/run is not executable")


def text_files() -> list[Path]:
    """Every text file of the project, found without git: a tarball has none."""
    kinds = {".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".typed", ".yaml", ".yml"}
    folders = [
        path
        for path in ROOT.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_")) and path.name not in {"build", "dist"}
    ]
    found = [path for path in ROOT.iterdir() if path.is_file()]
    found += [path for folder in folders for path in folder.rglob("*") if "_build" not in path.parts]
    chosen = [path for path in found if path.suffix in kinds or path.name in {".gitignore", "LICENSE"}]
    return sorted(path.relative_to(ROOT) for path in [*chosen, ROOT / ".ci" / "run"])


@nox.session
def types(session: nox.Session) -> None:
    """mypy on the package and its tests; pyright on what users' type checkers see."""
    session.install("-q", "-e", ".[cli,dask,redis]", *group("types"), "nox")
    # The node that came with the wheel, whatever else the machine has.
    node = {"PYRIGHT_PYTHON_GLOBAL_NODE": "0", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    pyright = partial(session.run, "pyright", "--verifytypes", "aiofluence", "--ignoreexternal", env=node)
    with ThreadPoolExecutor() as both:
        started = [both.submit(checker) for checker in (partial(session.run, "mypy"), pyright)]
    for checker in started:
        checker.result()


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation. A warning is an error. `-- html` writes the pages, which takes twice as long."""
    session.install("-q", "-e", ".[cli,dask,redis]", *group("docs"))
    build_docs(session, *(session.posargs or ["dummy"]))


def build_docs(session: nox.Session, builder: str) -> None:
    """Read all pages, and resolve all links. The builder `dummy` writes nothing."""
    options = ("-W", "--keep-going", "-E", "-q", "-j", "2", "-b", builder)
    session.run("sphinx-build", *options, "docs", f"docs/_build/{builder}")


@nox.session
def package(session: nox.Session) -> None:
    """What users get: the wheel, in an empty venv outside the tree, passes the tests that it could fail."""
    session.install("-q", *group("package"))
    with tempfile.TemporaryDirectory(prefix="aiofluence-") as folder:
        outside = Path(folder)
        sdist, wheel = build(session, outside / "dist")

        shutil.unpack_archive(sdist, outside)
        tree = outside / sdist.name.removesuffix(".tar.gz")
        shutil.rmtree(tree / "aiofluence")  # so that only the installed wheel can be imported

        session.run("uv", "venv", "-q", "--python", "python", str(outside / "venv"))
        python = str(outside / "venv" / "bin" / "python")
        # First with the hard dependencies alone: nothing may lean on an extra or on a test tool.
        session.run("uv", "pip", "install", "-q", "--python", python, str(wheel))
        with session.chdir(tree):
            session.run(python, "-W", "error", "-c", IMPORT_ALONE, external=True)
            session.run("uv", "pip", "install", "-q", "--python", python, f"{wheel}[cli]", *group("test"))
            session.run(str(outside / "venv" / "bin" / "aiofluence"), "--version", external=True, silent=True)
            session.run(python, "-m", "pytest", *OF_THE_WHEEL, *session.posargs, external=True)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """The files that a tag publishes, built into dist/ and checked. The tag stands after `--`: v0.1.0."""
    session.install("-q", "-e", ".[cli,dask,redis]", *group("package"), *group("docs"))
    session.run("python", "-m", "tools.release", *session.posargs)
    build_docs(session, "html")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    build(session, ROOT / "dist")


def build(session: nox.Session, folder: Path) -> tuple[Path, Path]:
    """Build and check the sdist and the wheel; return their paths."""
    # Without --wheel or --sdist, `build` makes the sdist first and the wheel from that.
    session.run("python", "-m", "build", "--installer", "uv", "--outdir", str(folder), ".", silent=True)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    session.run("twine", "check", "--strict", str(sdist), str(wheel))
    check_contents(session, wheel)
    return sdist, wheel


IMPORT_ALONE = """
import pathlib, sys, aiofluence, aiofluence.simulator
assert pathlib.Path(sys.prefix) in pathlib.Path(aiofluence.__file__).parents, aiofluence.__file__
"""


def check_contents(session: nox.Session, wheel: Path) -> None:
    """The wheel has the marker file, the simulator and the licence, and nothing beside the package."""
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    for needed in ("aiofluence/py.typed", "aiofluence/simulator/__init__.py", "/licenses/LICENSE"):
        if not any(name.endswith(needed) for name in names):
            session.error(f"{needed} is not in the wheel")
    strangers = {name.split("/")[0] for name in names} - {"aiofluence"}
    if {name for name in strangers if not name.endswith(".dist-info")}:
        session.error(f"the wheel also carries {sorted(strangers)}")
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    if dead := re.findall(r"\]\((?!https://)\S+", archive.read(metadata).decode()):
        session.error(f"links of the README that lead nowhere on PyPI: {dead}")
