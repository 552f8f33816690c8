"""The door without async: the same verbs as the async session, and the same end of everything.

Against the simulator, in real time that is short: what waits here is a thread.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import aiofluence
from aiofluence import (
    ConfigError,
    Container,
    ContainerSpec,
    ContainerUpdate,
    LaunchError,
    LifecycleError,
    LogLine,
    NoReplyError,
    NotSentError,
    Poll,
    ReplyError,
    SpecError,
    Until,
    WaitTimeoutError,
    sync,
)
from aiofluence.models.specs import Spec
from aiofluence.simulator import DEFAULT_API_KEY, ClusterOptions, Provisioning, Simulator, SimulatorWire
from aiofluence.sync.bridge import _Call, _refs
from tools import sync_generator

from .harness import FAST, container_spec, vm_spec
from .programs import run_program
from .test_secrets import KEY, shown
from .test_signals import NEVER, SOON, world

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no such system call")

QUICK = Provisioning(0.1, 0.0, start_delay=0.1, network_delay=0.1, domain_delay=0.1, update_delay=0.1)


def session_on(simulator: Simulator, **options: Any) -> sync.Session:
    options.setdefault("poll", Poll(interval=0.02))
    return sync.Session(DEFAULT_API_KEY, wire=SimulatorWire(simulator), rate=FAST, **options)


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(provisioning=QUICK, cluster=ClusterOptions(log_interval=0.1))


@pytest.fixture
def fluence(simulator: Simulator) -> Iterator[sync.Session]:
    with session_on(simulator) as session:
        yield session


# --- it cannot drift ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", sync_generator.MODULES)
def test_what_is_generated_is_current(module: str) -> None:
    there = (sync_generator.FOLDER / f"{module}.py").read_text(encoding="utf-8")
    assert _shape(there) == _shape(sync_generator.written(module)), "run `python -m tools.sync_generator`"


def _shape(text: str) -> str:
    """The code without its form, and without the order of its imports, which the formatter decides."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = " ".join(node.value.split())
    loose = {ast.dump(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)}
    return str(sorted(loose)) + "".join(ast.dump(n) for n in tree.body if isinstance(n, ast.ClassDef))


@pytest.mark.parametrize("name", sync_generator.CLASSES)
def test_a_twin_has_every_name_and_signature(name: str) -> None:
    module = sys.modules[f"aiofluence.{sync_generator.CLASSES[name]}"]
    original, duplicate = getattr(module, name), getattr(sync, name)
    for member in dir(original):
        if member.startswith("_") or member == "kind":
            continue
        ours = getattr(duplicate, "close" if member == "aclose" else member)
        theirs = getattr(original, member)
        if callable(theirs):
            assert _parameters(ours) == _parameters(theirs), member
            assert not inspect.iscoroutinefunction(ours), member
            assert ours.__doc__, member
    if name == "Session":
        assert _parameters(duplicate.__init__) == _parameters(original.__init__)


def _parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_every_class_with_async_verbs_has_a_twin() -> None:
    public = [getattr(aiofluence, name) for name in aiofluence.__all__]
    for cls in public:
        if (
            inspect.isclass(cls)
            and not issubclass(cls, Exception)
            and not getattr(cls, "_is_protocol", False)
        ):
            verbs = [m for m, value in inspect.getmembers(cls) if inspect.iscoroutinefunction(value)]
            assert not verbs or cls.__name__ in sync.__all__, cls


def test_importing_the_library_does_not_load_it() -> None:
    code = (
        "import aiofluence, sys; assert not any(name.startswith('aiofluence.sync') for name in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- it works -----------------------------------------------------------------------------------------------


def test_resources(simulator: Simulator, fluence: sync.Session) -> None:
    offer = fluence.plans.cheapest(kind="container")
    assert offer.plan_id in {plan.id for plan in fluence.plans.containers()}
    assert fluence.images.list()
    ref = fluence.containers.deploy(container_spec(simulator))
    assert [row.id for row in fluence.containers.list()] == [ref.id]
    assert fluence.wait(ref).id == fluence.containers.get(ref.id).id == ref.id
    assert fluence.request("GET", "/gpu/plans/").status == 200
    assert fluence.with_options(timeout=5).containers.get(ref.id).id == ref.id
    fluence.containers.terminate(ref.id)
    assert simulator.live() == []


def test_one_from_deploy_to_its_end(simulator: Simulator, fluence: sync.Session) -> None:
    container = fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
    assert isinstance(container, Container)
    update = ContainerUpdate.from_container(container)
    assert fluence.update_and_wait(container, update).id == container.id
    assert fluence.ensure(container_spec(simulator)) == container.ref
    assert fluence.sweep(prefix="exp-").found == ()  # it is this session's own
    assert fluence.custody.ending == ()
    fluence.terminate_and_wait(container)
    assert simulator.live() == []


def test_running(simulator: Simulator, fluence: sync.Session) -> None:
    with pytest.raises(ZeroDivisionError):
        with fluence.running(container_spec(simulator)) as container:
            assert [instance.id for instance in simulator.live()] == [container.id]
            raise ZeroDivisionError
    assert simulator.live() == []


def test_many_at_once(simulator: Simulator, fluence: sync.Session) -> None:
    specs: list[Spec] = [*container_spec(simulator, "exp-{i}").many(3), vm_spec(simulator)]
    heard: list[str] = []
    report = fluence.deploy_all_and_wait(specs, on_progress=lambda event: heard.append(event.state))
    assert len(report.ready) == 4
    assert "provisioning" in heard


def test_a_launch_one_by_one_and_left_early(simulator: Simulator, fluence: sync.Session) -> None:
    with fluence.launch(container_spec(simulator, "exp-{i}").many(5)) as launch:
        mine = next(launch)
    assert len(launch.report.ready) == 1
    with fluence.launch(container_spec(simulator, "more-{i}").many(2)) as launch:
        assert len(launch.complete().ready) == 2
        assert list(launch) == []
    names = {"more-0", "more-1", mine.spec.name}
    fluence.sweep(prefix="nothing")  # one more turn of the loop for what is being ended
    while fluence.custody.ending:
        fluence.containers.list()
    assert {instance.name for instance in simulator.live()} == names


def test_tails(simulator: Simulator, fluence: sync.Session) -> None:
    container = fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
    tail = fluence.tail_logs(container)
    assert tail.ref == container.ref
    assert isinstance(next(tail), LogLine)
    tail.close()
    assert list(tail) == []
    for event in fluence.tail_events(container):
        assert event.raw
        break
    assert next(fluence.tail_all([container])).ref == container.ref


def test_errors_can_be_resumed(simulator: Simulator) -> None:
    simulator.provisioning = NEVER
    with session_on(simulator) as fluence:
        with pytest.raises(SpecError):
            fluence.deploy_and_wait(ContainerSpec(name="", plan_id="", image="", expose=[]))
        with pytest.raises(WaitTimeoutError) as caught:
            fluence.deploy_and_wait(container_spec(simulator), timeout=0.1, on_failure="keep")
        assert isinstance(caught.value, LifecycleError)
        with pytest.raises(WaitTimeoutError):
            fluence.call(caught.value.resume, timeout=0.1)
        assert fluence.call(max, 1, 2) == 2
        with pytest.raises(LaunchError):
            fluence.deploy_all_and_wait(
                [container_spec(simulator, "exp-2")], min_ready=1, timeout=0.1, on_failure="keep"
            )


def test_used_wrongly_it_says_how(simulator: Simulator) -> None:
    session = session_on(simulator)
    with pytest.raises(ConfigError, match="with Session"):
        session.plans.containers()
    with session:
        assert "without async" in repr(session)
    with pytest.raises(ConfigError, match="with Session"):
        session.plans.containers()
    with pytest.raises(ConfigError, match="entered once"):
        session.__enter__()
    with pytest.raises(ConfigError):
        sync.Session(DEFAULT_API_KEY, max_in_flight=0)


def test_no_error_shows_a_secret(fluence: sync.Session) -> None:
    with pytest.raises(ConfigError) as refused:
        sync.Session(KEY, max_in_flight=0)
    with pytest.raises(ReplyError) as replied:
        fluence.request("POST", "/gpu/instances/", json={"password": KEY})
    assert KEY not in shown(refused.value) + shown(replied.value)


def test_a_callback_cannot_call_the_session(fluence: sync.Session) -> None:
    with pytest.raises(RuntimeError, match="event loop thread"):
        fluence.call(fluence.containers.list)


def test_inside_a_running_loop_as_in_a_notebook(simulator: Simulator) -> None:
    async def cell() -> int:
        with session_on(simulator) as fluence:
            return len(fluence.plans.containers())

    assert asyncio.run(cell()) > 0


def test_from_many_threads_and_closed_under_them(simulator: Simulator) -> None:
    simulator.provisioning = Provisioning(median=2.0, sigma=0.0)
    ended: list[BaseException] = []

    def work(number: int) -> None:
        try:
            session.deploy_and_wait(container_spec(simulator, f"exp-{number}"))
        except BaseException as error:
            ended.append(error)

    with session_on(simulator) as session:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while len(simulator.live()) < 4:
            session.custody  # noqa: B018 - a turn of the loop
    for thread in threads:
        thread.join()
    assert [type(error) for error in ended] == [NoReplyError] * 4
    assert simulator.live() == []


# --- it ends -----------------------------------------------------------------------------------------------

HEAD = """
import contextlib, gc, multiprocessing, os, sys, threading, time
from aiofluence import ConfigError, Poll, RateLimit
from aiofluence.simulator import Provisioning, Simulator, SimulatorWire
from aiofluence.sync import Session
from tests.harness import container_spec

simulator = Simulator(provisioning=Provisioning(median=0.05, sigma=0.0))

def session(**options):
    wire = SimulatorWire(simulator, latency=0.002)
    poll = Poll(interval=0.02, expected=0.05, earliest=0.01)
    return Session(simulator.api_key, wire=wire, rate=RateLimit(1000, 1000), poll=poll, **options)

def left():
    simulator.advance(simulator.now)
    print("left:", len(simulator.live()), flush=True)

import atexit
atexit.register(left)
"""
NEVER_CLOSED = {
    "a bug": """
fluence = session().__enter__()
fluence.plans.find()
raise ValueError("a bug")
""",
    "garbage": """
session().__enter__().plans.find()
gc.collect()
""",
    "sys.exit": """
fluence = session().__enter__()
sys.exit(0)
""",
    "in another thread": """
thread = threading.Thread(target=lambda: session().__enter__().plans.find())
thread.start()
""",
    "a block is entered": """
fluence = session().__enter__()
block = fluence.running(container_spec(simulator))
block.__enter__()
launch = fluence.launch(container_spec(simulator, "more-{i}").many(2)).__enter__()
assert simulator.live()
""",
    "something is owed": """
simulator.provisioning = Provisioning(median=2.0, sigma=0.0)
fluence = session().__enter__()
fluence.call(fluence._door.give_back, fluence.containers.deploy(container_spec(simulator)))
""",
    "its event loop is blocked": """
fluence = session().__enter__()
fluence.call(lambda: fluence._door._thread._loop.result().call_soon(time.sleep, 3600))
""",
}


def play(program: str, *, seconds: float = 30.0) -> tuple[int, str, str]:
    """Run `program` behind HEAD, and return its exit code, stdout and stderr."""
    done = run_program(HEAD + program, timeout=seconds)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("how", NEVER_CLOSED)
def test_an_unclosed_session_lets_a_program_end(how: str) -> None:
    code, said, told = play(NEVER_CLOSED[how])
    assert code == (how == "a bug"), told
    assert "left: 0" in said
    if how == "something is owed":
        assert "never closed" in told
        assert "exp-1" in told
    if how == "its event loop is blocked":
        assert "never closed" in told


OWED = """
simulator.provisioning = Provisioning(median=1e9, sigma=0.0)
fluence = session(close_timeout=0.5).__enter__()
fluence.call(fluence._door.give_back, fluence.containers.deploy(container_spec(simulator)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize(
    "program",
    [
        OWED,
        OWED.replace("0.5", "3600")
        + """
import signal
threading.Thread(target=lambda: (time.sleep(1), signal.raise_signal(signal.SIGINT)), daemon=True).start()
""",
        OWED.replace("0.5", "3600")
        + """
try:
    raise KeyboardInterrupt
except KeyboardInterrupt:
    raise KeyboardInterrupt
""",
    ],
    ids=["it takes too long", "one Ctrl-C at exit", "two before"],
)
def test_an_exit_names_what_still_bills(program: str) -> None:
    _, said, told = play(program)
    assert "left: 1" in said
    assert "exp-1" in told
    assert "sweep" in told


def test_a_failed_open_leaves_no_thread(simulator: Simulator, tmp_path: Path) -> None:
    session = session_on(simulator, journal=tmp_path)  # a directory
    with pytest.raises(ConfigError):
        session.__enter__()
    assert not any(thread.name == "aiofluence" for thread in threading.enumerate())
    with pytest.raises(ConfigError, match="with Session"):
        session.plans.containers()


@needs_fork
def test_an_open_without_descriptors_fails() -> None:
    code, said, told = play(
        """
import resource
fluence = session()
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
lowest = os.dup(0)
os.close(lowest)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
try:
    fluence.__enter__()
except OSError as error:
    print(error.strerror)
finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print([thread.name for thread in threading.enumerate()])
"""
    )
    assert code == 0, told
    assert said.splitlines()[:2] == ["Too many open files", "['MainThread']"]


def test_close_ends_a_session_once(simulator: Simulator) -> None:
    with session_on(simulator) as fluence:
        ref = fluence.containers.deploy(container_spec(simulator))
        fluence.call(fluence._door.give_back, ref)
        fluence.close()
        assert simulator.live() == []
        fluence.close()


@needs_fork
def test_a_forked_child_is_refused_and_ends() -> None:
    code, said, told = play(
        """
def work():
    for call in (fluence.plans.find, lambda: fluence.containers.deploy(container_spec(simulator)),
                 lambda: block.__exit__(None, None, None), lambda: fluence.__exit__(None, None, None)):
        try:
            call()
        except ConfigError as error:
            assert "parent process" in str(error)
        else:
            raise AssertionError(call)

with session() as fluence:
    block = fluence.running(container_spec(simulator))
    block.__enter__()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    child = os.fork()
    if not child:
        with contextlib.ExitStack() as stack:
            stack.push(block)
            raise SystemExit(7)  # what the child is in the middle of is the parent's
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(simulator.live()) == 1
    assert fluence.plans.find()
    block.__exit__(None, None, None)
"""
    )
    assert code == 0, told
    assert said.splitlines()[-1] == "left: 0"
    assert "Traceback" not in told


def test_a_session_opened_after_a_fork() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("no such system call")
    code, _, told = play(
        """
fluence = session()
child = os.fork()
with fluence:
    assert fluence.plans.find()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    )
    assert code == 0, told


def test_threads_end_with_the_session(simulator: Simulator) -> None:
    """Those that come while it closes, and those that come too late for its event loop."""
    ended: list[BaseException] = []
    session = session_on(simulator)

    def work() -> None:
        try:
            while True:
                session.containers.list()
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    with session:
        for thread in threads:
            thread.start()
        while simulator.count() < 100:
            session.custody  # noqa: B018 - a turn of the loop
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert {type(error) for error in ended} <= {NoReplyError, NotSentError, ConfigError}
    assert len(ended) == len(threads)


# --- Ctrl-C -------------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys, time
from aiofluence import ContainerSpec, Poll, RateLimit
from aiofluence.sync import Session

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())  # at once: two threads speak

_, plan_id, journal, use = sys.argv[1:]
session = Session(
    poll=Poll(interval=0.05), rate=RateLimit(1000, 1000), on_reply=lambda call, reply: say(call.method)
)
spec = ContainerSpec(name="exp-1", plan_id=plan_id, image="ollama/ollama:0.6.5", expose=[11434])
try:
    with session as fluence:
        try:
            if use == "running":
                with fluence.running(spec):
                    say("inside")
                    while True:
                        time.sleep(0.05)
            if use == "launch":
                with fluence.launch([spec]) as launch:
                    for outcome in launch:
                        say("has")
            if use == "close":
                fluence.containers.deploy(spec)
                fluence.call(fluence._door.give_back, fluence.containers.list()[:1])
                say("closing")
            else:
                fluence.deploy_and_wait(spec)
        except KeyboardInterrupt:
            say("cancelled")
            raise
finally:
    say("closed")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("use", ["wait", "running", "launch", "close"])
async def test_ctrl_c_is_drained(use: str) -> None:
    async with world(SOON) as service:
        child = await service.start("", use, program=PROGRAM)
        await child.says("closing" if use == "close" else "POST")
        if use == "running":
            service.hurry()
            await child.says("inside")
            service.hurry(slowly=True)
        assert len(service.simulator.live()) == 1
        child.send(signal.SIGINT)
        if use != "close":
            await child.says("cancelled")
        service.hurry()
        await child.says("closed")
        code, told = await child.ended()
        assert code == -signal.SIGINT, told
        service.simulator.advance(service.server.now())
        assert service.simulator.live() == []
        assert service.simulator.reserved() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("use", ["wait", "launch"])
async def test_a_second_ctrl_c_leaves_at_once_and_tells(use: str) -> None:
    async with world(NEVER) as service:
        child = await service.start("", use, program=PROGRAM)
        await child.says("POST")
        await child.says("GET")
        child.send(signal.SIGINT)
        await child.says("cancelled")
        await child.says("GET")  # it waits for its end
        child.send(signal.SIGINT)
        code, told = await child.ended()
        assert code == -signal.SIGINT, told
        (live,) = service.simulator.live()
        assert live.id in told
        assert "sweep(prefix='exp-1')" in told
        assert "never retrieved" not in told
        assert "was destroyed" not in told


@pytest.fixture
def struck() -> Iterator[threading.Event]:
    """Set when Ctrl-C has been raised in this thread."""
    event = threading.Event()

    def handler(number: int, frame: object) -> None:
        event.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    yield event
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def strike_at(monkeypatch: pytest.MonkeyPatch, struck: threading.Event) -> Callable[[Any], None]:
    """Strike at the first result that fits: the loop's thread has it, and the waiting thread does not yet."""

    def strike_at(fits: Callable[[Any], bool]) -> None:
        run = _Call.run

        async def run_and_strike(call: _Call) -> None:
            there, call.outcome = call.outcome, Future()
            await run(call)
            got, call.outcome = call.outcome, there
            error = got.exception()
            if error is not None:
                there.set_exception(error)
                return
            if not struck.is_set() and fits(got.result()):
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)
                struck.wait()
            there.set_result(got.result())

        monkeypatch.setattr(_Call, "run", run_and_strike)

    return strike_at


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("verb", ["deploy", "deploy_and_wait", "deploy_all_and_wait", "running", "next"])
def test_a_result_at_ctrl_c_is_not_lost(
    simulator: Simulator, verb: str, strike_at: Callable[[Any], None]
) -> None:
    spec = container_spec(simulator)
    with pytest.raises(KeyboardInterrupt), session_on(simulator) as fluence:
        strike_at(lambda result: any(_refs(result)))
        match verb:
            case "deploy":
                fluence.containers.deploy(spec)
            case "deploy_and_wait":
                fluence.deploy_and_wait(spec)
            case "deploy_all_and_wait":
                fluence.deploy_all_and_wait([spec])
            case "running":
                with fluence.running(spec):
                    raise AssertionError("it was struck before this")
            case _:
                with fluence.launch([spec]) as launch:
                    next(launch)
    assert len(simulator.instances()) == 1
    assert simulator.live() == []


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_line_at_ctrl_c_comes_next(simulator: Simulator, strike_at: Callable[[Any], None]) -> None:
    simulator.cluster = ClusterOptions(log_interval=None)
    with session_on(simulator) as fluence:
        container = fluence.deploy_and_wait(container_spec(simulator), until=Until.READY)
        simulator.print(container.id, "first", "second", "third")
        tail = fluence.tail_logs(container, last=3)
        strike_at(lambda result: isinstance(result, LogLine))
        with pytest.raises(KeyboardInterrupt):
            next(tail)
        assert [str(next(tail)).rpartition(" ")[2] for _ in range(3)] == ["first", "second", "third"]


STRIKES = "import runpy; runpy.run_module('tests.strikes', run_name='__main__', alter_sys=True)"


@needs_fork
@pytest.mark.parametrize(
    ("scenario", "step", "error"),
    [
        # Struck at some of their lines; `python -m tests.strikes` strikes at all of them, and takes minutes.
        ("empty_session", 17, "KeyboardInterrupt"),
        ("deploy", 19, "KeyboardInterrupt"),
        ("deploy", 29, "RuntimeError"),
        ("blocks", 127, "KeyboardInterrupt"),
        ("close", 17, "KeyboardInterrupt"),
        ("second", 17, "KeyboardInterrupt"),
    ],
)
@pytest.mark.timeout(300)  # some processes each, which a busy machine may need a while for
def test_ctrl_c_at_any_line_loses_nothing(scenario: str, step: int, error: str) -> None:
    done = run_program(STRIKES, scenario, str(step), error)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["struck"] >= 2


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("error", [RuntimeError, TimeoutError, SystemExit, NoReplyError])
def test_a_signal_handler_s_error_ends_the_call(simulator: Simulator, error: type[BaseException]) -> None:
    """A job runner's time limit, say: the instance is ended, whatever class the exception has."""
    simulator.provisioning = Provisioning(median=0.2, sigma=0.0)
    wire = SimulatorWire(simulator, latency=0.5)

    def limit(number: int, frame: object) -> None:
        raise error("time limit")

    before = signal.signal(signal.SIGALRM, limit)
    try:
        with sync.Session(DEFAULT_API_KEY, wire=wire, rate=FAST, poll=Poll(interval=0.02)) as fluence:
            spec = container_spec(simulator)
            signal.setitimer(signal.ITIMER_REAL, 0.3)  # the POST is on its way
            with pytest.raises(error, match="time limit"):
                fluence.containers.deploy(spec)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(simulator.instances()) == 1
    assert simulator.live() == []
