"""Random lives: programs that deploy, update and end instances while the service lies and processes die.

The seed determines a life. `python -m tests.lives SEED [-v] [--kinds a,b | --without a,b]` repeats one, with
all of its kinds of faults, only some, or all except some. `tests/test_lives.py` runs hundreds of lives,
`benchmarks/lives.py` thousands. This module asserts nothing: a life returns a `Verdict`. The service is
`tests/second_service.py`, the faults are `tests/weather.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias
from weakref import WeakSet

import attrs

from aiofluence import (
    BareMetalSpec,
    ConfigError,
    ContainerSpec,
    ContainerUpdate,
    CustodyError,
    DeployPolicy,
    FluenceError,
    InstanceRef,
    LaunchError,
    LaunchState,
    LifecycleError,
    Outcome,
    RateLimit,
    Session,
    UncertainDeployError,
    Until,
    VMSpec,
    WaitTimeoutError,
    Wire,
)
from aiofluence.simulator import run_virtual

from .harness import IMAGE, SSH_KEY
from .second_service import OS_IMAGE, PLAN, Cloud, Row, SecondWire, StrangeError
from .weather import FAULTS, draw, make_cloud

PROGRAM: Final = (
    "kill",
    "together",
    "shared",
    "sweep",
    "prefix",
    "cancel",
    "leave",
    "batch",
    "running",
    "update",
)
"""Kinds of lives that concern the programs, not the service."""
KINDS: Final = (*FAULTS, *PROGRAM)
CLOSE_TIMEOUT: Final = 4500.0
LONGEST: Final = 3600.0
"""Loop seconds after which the user of a program presses Ctrl-C."""
CPU_SECONDS: Final = 60
REAL_SECONDS: Final = 300
"""Limits of a life: `CPU_SECONDS` of work and `REAL_SECONDS` in total. Beyond them it counts as stuck."""
HOPELESS: Final = 280.0
"""Seconds without a usable reply after which a close may give up and report so."""
OUTAGES: Final = ("down", "gateway", "lost", "throttle")
GONE_WITHIN: Final = 2700.0
"""Seconds that the end of a `running` block, or a sweep, waits for the end of an instance."""
SPARE: Final = 120.0
"""Seconds by which a verb may exceed its own timeout."""

CLASSES: Final[Mapping[str, str]] = {
    "twice": "two live instances of one deploy, and no error, journal or custody names the second",
    "lost": "live, in the hands of no caller, and named by no error, journal or custody",
    "harmed": "ended by the library while a caller held it",
    "foreign": "another user's instance was ended, or handed out by a deploy that does not adopt",
    "hang": "a verb or a close took longer than its timeout, or never ended",
    "raised": "an exception that is no FluenceError, or a ConfigError after a POST",
    "posts": "one deploy sent more than max_posts POSTs",
    "rollout": "one update was applied twice",
    "gave up": "custody stopped although the service worked again long before the close",
}


@attrs.frozen
class Violation:
    """A broken promise."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@attrs.define
class Verdict:
    """Result of one life.

    Attributes:
        seed: seed of the life.
        kinds: kinds of faults in the life.
        violations: broken promises.
        counts: figures for the table.
        story: faults, programs and timeline, as text.
        seconds: CPU time of the life.
    """

    seed: int
    kinds: tuple[str, ...]
    violations: list[Violation] = attrs.field(factory=list)
    counts: dict[str, int] = attrs.field(factory=dict)
    story: str = ""
    seconds: float = 0.0


@attrs.define(eq=False)
class Hold:
    """An instance held by a caller.

    Attributes:
        since: loop time at which the caller received the instance.
        free: loop time from which the library may end the instance, at the caller's request.
        gone: the library told the caller that the instance has ended.
    """

    ref: InstanceRef
    since: float
    free: float | None = None
    gone: bool = False


@attrs.define(eq=False)
class Books:
    """Knowledge of the callers of one run.

    Attributes:
        named: ids that an error names as possibly running.
        names: names that an error names as possibly running.
        kept: names of instances that run on because the caller requested `keep` and was cancelled.
        custody: ids and names of instances that the session could not end by its close.
    """

    holds: list[Hold] = attrs.field(factory=list)
    named: set[str] = attrs.field(factory=set)
    names: set[str] = attrs.field(factory=set)
    kept: set[str] = attrs.field(factory=set)
    custody: set[str] = attrs.field(factory=set)

    def names_row(self, row: Row) -> bool:
        """Return True if an error names this row."""
        return row.id in self.named or row.name in self.names


Sabotage: TypeAlias = Callable[[SecondWire], Wire]
Action: TypeAlias = Callable[["Run", Session, Any, Random], Coroutine[Any, Any, None]]

_RUN: ContextVar[str] = ContextVar("run", default="")


class Stuck(BaseException):
    """Signal that a life took too long by the machine's clock."""


class Life:
    """A life, from its seed to its verdict."""

    def __init__(
        self,
        seed: int,
        kinds: Iterable[str] | None = None,
        *,
        sabotage: Sabotage | None = None,
        actions: Mapping[str, Action] | None = None,
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        allowed = KINDS if kinds is None else tuple(kinds)
        likely = self.rng.choice((0.1, 0.2, 0.3))
        # Draw all kinds before the filter, so that a filter does not change the remaining kinds.
        drawn = [kind for kind in KINDS if self.rng.random() < (likely if kind in FAULTS else 0.5)]
        self.kinds = tuple(kind for kind in drawn if kind in allowed)
        self.settle = self.rng.choice((30.0, 90.0))
        self.watch = self.rng.choice((200.0, 300.0))
        self.max_posts = self.rng.choice((1, 2, 3, 3))
        self.sky = draw(
            Random(f"{seed}/weather"), [k for k in self.kinds if k in FAULTS], self.settle, self.watch
        )
        self.cloud: Cloud = make_cloud(self.sky)
        self.sabotage = sabotage
        self.actions = {**ACTIONS, **(actions or {})}
        self.runs: list[Run] = []
        self.verdict = Verdict(seed, self.kinds)
        self.tasks: dict[str, WeakSet[asyncio.Task[Any]]] = {}
        self._episodes = tuple(self.sky.episodes)
        self._drawn = [f"  {episode}" for episode in self.sky.episodes]

    def blame(self, kind: str, text: str) -> None:
        """Record a violation."""
        self.verdict.violations.append(Violation(kind, text))
        self.cloud.note("-", f"VIOLATION {kind}: {text}")

    # The course of a life

    def live(self) -> Verdict:
        """Run the life on virtual time, and judge it."""
        began = time.process_time()
        random.seed(self.seed)
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=shm) as folder, _quietly(), _watchdog():
            try:
                run_virtual(self._course(Path(folder)))
            except Stuck as error:
                where = "".join(traceback.format_tb(error.__traceback__)[-4:])
                self.blame("hang", f"stuck for {CPU_SECONDS} s of CPU or {REAL_SECONDS} s\n{where}")
        self.verdict.seconds = time.process_time() - began
        return self.verdict

    async def _course(self, folder: Path) -> None:
        asyncio.get_running_loop().set_task_factory(self._make_task)
        try:
            self._prepare(folder)
            programs = [asyncio.ensure_future(self._program(run)) for run in self.runs]
            sleeps = [asyncio.ensure_future(self._sleep(*each)) for each in self.sky.suspends]
            await asyncio.wait(programs)
            for task in (*programs, *sleeps):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self._rest()
        finally:
            self.verdict.story = self._story()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **options)
        self.tasks.setdefault(_RUN.get(), WeakSet()).add(task)
        return task

    def _prepare(self, folder: Path) -> None:
        rng, cloud = self.rng, self.cloud
        for number in range(self.sky.old):
            cloud.add("container", f"old-{number}", age=86400.0 * (number + 1), over=True)
        count = rng.choice((2, 2, 3)) if "together" in self.kinds else 1
        one_file = rng.random() < 0.5
        shares = "shared" in self.kinds and count > 1
        common = folder / "all.journal"
        for index in range(count):
            own = common if one_file or shares else folder / f"p{index}.journal"
            journal = own if shares or "kill" in self.kinds or rng.random() < 0.6 else None
            run = Run(self, f"p{index}", journal, Random(f"{self.seed}/p{index}"))
            run.plan(shares)
            if "kill" in self.kinds and journal is not None:
                run.dies_at = rng.choice((rng.uniform(0, 5), rng.uniform(0, 120), rng.uniform(0, 1500)))
            self.runs.append(run)
            for name, kind in run.names.items():
                if rng.random() < self.sky.foreign and "prefix" not in self.kinds:
                    cloud.add(kind, name, age=rng.choice((3700.0, 86400.0, 30 * 86400.0)))
        if "sweep" in self.kinds and (journals := [run.journal for run in self.runs if run.journal]):
            sweeper = Run(self, "cron", rng.choice(journals), Random(f"{self.seed}/cron"))
            sweeper.is_cron = True
            self.runs.append(sweeper)
        cloud.know_holders(self._holds_live)

    def _holds_live(self, name: str, kind: str) -> bool:
        """Return True if a run knows a live instance of that kind that a complete LIST must show."""
        now = asyncio.get_running_loop().time()
        return any(
            hold.ref.kind.value == kind
            and hold.free is None
            and now - hold.since > self.settle
            and self.cloud.rows[hold.ref.id].is_live(self.cloud.now)
            for run in self.runs
            if run.name == name
            for hold in run.books.holds
        )

    async def _sleep(self, when: float, seconds: float) -> None:
        await asyncio.sleep(when)
        self.cloud.suspend(seconds)

    async def _program(self, run: Run) -> None:
        """Run one program, and its next runs after each kill."""
        await asyncio.sleep(run.rng.choice((0.0, run.rng.uniform(0, 300))))
        if run.is_cron:
            await self._cron(run)
            return
        while True:
            killed = await self._one_run(run)
            if not killed:
                return
            await asyncio.sleep(run.rng.choice((0.0, run.rng.uniform(0, 60), run.rng.uniform(0, 900))))
            run = run.successor()
            self.runs.append(run)

    async def _cron(self, run: Run) -> None:
        for _ in range(run.rng.randint(1, 3)):
            await asyncio.sleep(run.rng.uniform(0, 900))
            sweeper = Run(self, f"cron{len(self.runs)}", run.journal, run.rng)
            sweeper.is_cron = True
            self.runs.append(sweeper)
            await self._one_run(sweeper)

    async def _one_run(self, run: Run) -> bool:
        """Run one process from start to end. Return True if the process was killed."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        token = _RUN.set(run.name)
        main = asyncio.ensure_future(run.main())
        _RUN.reset(token)
        bound = LONGEST + GONE_WITHIN + CLOSE_TIMEOUT + 3 * SPARE
        await asyncio.wait([main], timeout=bound if run.dies_at is None else run.dies_at)
        if not main.done() and run.dies_at is not None:
            await self._kill(run)
            return True
        if not main.done():
            self.blame("hang", f"{run.name} still runs after {loop.time() - began:.0f} s: {run.doing()}")
            await self._kill(run)
        elif not main.cancelled() and (error := main.exception()) is not None:
            raise error
        return False

    async def _kill(self, run: Run) -> None:
        """Kill a process as SIGKILL does: from this moment nothing reaches the service or the disk."""
        self.cloud.note(run.name, "KILLED")
        run.is_killed = True
        run.wire.is_dead = True
        loop = asyncio.get_running_loop()
        moment = loop.time()
        disk = _Disk(run.journal)
        until = time.perf_counter() + 10
        turn = 0
        while left := [task for task in self.tasks.get(run.name, ()) if not task.done()]:
            if turn % 50 == 0:
                for task in left:
                    task.cancel()
            turn += 1
            if time.perf_counter() > until:
                self.blame("hang", f"{run.name}: tasks resist a cancellation: {left[:2]}")
                break
            await asyncio.sleep(0)
        assert loop.time() == moment, "nothing else may run while a process dies"
        disk.restore()

    # At rest

    async def _rest(self) -> None:
        """End all faults, wait until nothing changes, sweep every journal, and judge."""
        cloud = self.cloud
        cloud.note("-", "AT REST")
        held_at_rest = {row.id for row in cloud.live()}
        cloud.heal()
        cloud.minimum = 0.0
        await asyncio.sleep(2000.0)
        self._judge_custody(held_at_rest)
        swept: set[str] = set()
        for journal in dict.fromkeys(run.journal for run in self.runs if run.journal is not None):
            before = {row.id for row in cloud.live()}
            sweeper = Run(self, "final", journal, self.rng)
            sweeper.is_cron = True
            self.runs.append(sweeper)
            await self._one_run(sweeper)
            swept |= before - {row.id for row in cloud.live()}
        self._judge(swept)

    def _is_blind(self) -> bool:
        """Return True if an outage is so long that a close may stop before `close_timeout`."""
        return any(
            episode.on & {"get", "list"} and episode.length > HOPELESS and episode.fault in OUTAGES
            for episode in self._episodes
        )

    def _judge_custody(self, live: set[str]) -> None:
        if {"unknown", "paged"} & set(self.kinds) or self._is_blind():
            return
        for run in self.runs:
            for id in run.books.custody & live:
                row = self.cloud.rows[id]
                if row.is_live(self.cloud.now):
                    self.blame(
                        "gave up", f"{run.name}: {_title(row)} is live at rest, and CustodyError names it"
                    )

    def _judge(self, swept: set[str]) -> None:
        cloud = self.cloud
        held: dict[str, Hold] = {}
        for run in self.runs:
            for hold in run.books.holds:
                if not hold.gone:
                    held[hold.ref.id] = hold
        live = cloud.live()
        # With `on_failure="keep"` an instance runs on, also after a cancellation. Each run may keep one.
        kept = Counter(name for run in self.runs for name in run.books.kept)
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in live:
            if row.by != "console":
                groups.setdefault((row.kind, row.name), []).append(row)
        count = self.verdict.counts
        for rows in groups.values():
            unknown = [
                row
                for row in rows
                if row.id not in held and not any(run.books.names_row(row) for run in self.runs)
            ]
            del unknown[max(0, len(unknown) - kept[rows[0].name]) :]
            for row in unknown:
                self.blame("twice" if len(rows) > 1 else "lost", f"{_title(row)}, made by {row.by}")
            count["named"] = count.get("named", 0) + sum(row.id not in held for row in rows) - len(unknown)
        for row in cloud.rows.values():
            self._judge_row(row, held)
        silent = [
            row
            for row in cloud.rows.values()
            if row.id in swept and not any(run.is_killed for run in self.runs if run.name == row.by)
        ]
        count["rows"] = sum(row.by != "console" for row in cloud.rows.values())
        count["held"] = len(held)
        count["swept"] = len(swept)
        count["swept of runs that ended well"] = len(silent)
        count["requests"] = cloud.requests
        count["posts"] = len(cloud.posts)
        self._judge_posts()

    def _judge_row(self, row: Row, held: Mapping[str, Hold]) -> None:
        if row.by == "console" and row.deletes:
            if not any(
                hold.ref.id == row.id and hold.free is not None
                for run in self.runs
                for hold in run.books.holds
            ):
                self.blame("foreign", f"{_title(row)} was ended by {row.deletes[0][1]}")
            return
        for run in self.runs:
            for hold in run.books.holds:
                if hold.ref.id != row.id:
                    continue
                for when, by in row.deletes:
                    is_early = when < hold.since and by == run.name
                    if is_early or (when >= hold.since and (hold.free is None or when < hold.free)):
                        self.blame("harmed", f"{_title(row)} of {run.name}, by {by} at {when:.0f} s")
                        break
        by_run: dict[tuple[str, str], int] = {}
        for _, image, by in row.updates:
            by_run[by, image] = by_run.get((by, image), 0) + 1
        for (by, image), times in by_run.items():
            if times > 1:
                self.blame("rollout", f"{_title(row)}: {image} was applied {times} times for {by}")

    def _judge_posts(self) -> None:
        for run in self.runs:
            for name, calls in run.calls.items():
                sent = sum((by, posted) == (run.name, name) for by, _, posted in self.cloud.posts)
                if sent > calls * self.max_posts:
                    limit = calls * self.max_posts
                    text = f"{run.name}: {sent} POSTs of {name} for {calls} deploys, at most {limit}"
                    self.blame("posts", text)

    def _story(self) -> str:
        policy = f"settle={self.settle:g} watch={self.watch:g} max_posts={self.max_posts}"
        lines = [f"life {self.seed}: {' '.join(self.kinds)}", policy]
        sky = self.sky
        lines.append(
            f"lag={sky.lag:.1f} provision={sky.provision[0]:.0f}..{sky.provision[1]:.0f} fails={sky.fails} "
            f"minimum={sky.minimum:g} only_active={sky.only_active} old={sky.old} "
            f"suspends={[(round(when), seconds) for when, seconds in sky.suspends]}"
        )
        lines += self._drawn
        lines += [f"  {run.describe()}" for run in self.runs]
        lines += _fold(self.cloud.log)
        lines += [f"VIOLATION {violation}" for violation in self.verdict.violations]
        return "\n".join(lines)


@attrs.define(eq=False)
class Run:
    """A process: a session and the actions of its callers."""

    life: Life
    name: str
    journal: Path | None
    rng: Random
    number: int = 0
    dies_at: float | None = None
    is_killed: bool = False
    is_cron: bool = False
    steps: list[tuple[str, str, str, int]] = attrs.field(factory=list)
    names: dict[str, str] = attrs.field(factory=dict)
    calls: dict[str, int] = attrs.field(factory=dict)
    books: Books = attrs.field(factory=Books)
    wire: SecondWire = attrs.field(init=False)
    active: dict[int, tuple[str, float]] = attrs.field(factory=dict)
    keeping: dict[asyncio.Task[Any] | None, set[str]] = attrs.field(factory=dict)
    base: str = ""

    def __attrs_post_init__(self) -> None:
        self.base = self.base or self.name
        self.wire = SecondWire(self.life.cloud, self.name)

    @property
    def now(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def plan(self, shares: bool) -> None:
        """Draw the actions of the program: (action, kind, name, size) for each of its tasks."""
        rng, kinds = self.rng, self.life.kinds
        offered = ["hold", "hold", "rent", "bare", "ensure", "endpoint"]
        offered += [each for each in ("batch", "running", "update") if each in kinds]
        for index in range(rng.randint(1, 3)):
            action = rng.choice(offered)
            kind = (
                "container"
                if action == "update"
                else rng.choice(("container", "container", "vm", "baremetal"))
            )
            name = f"{self.base}-{index}"
            size = rng.randint(2, 4) if action == "batch" else 1
            self.steps.append((action, kind, name, size))
            self.names[name] = kind
        if shares:
            self.steps.append(("ensure", "container", "both-1", 1))
        if "prefix" in kinds:
            self.steps.append(("prefix", "container", f"{self.base}-", 1))
        if "sweep" in kinds and self.journal is not None and rng.random() < 0.5:
            self.steps.append(("sweep", "container", "", 1))

    def successor(self) -> Run:
        """Return the next run of the same program, with the same journal."""
        number = self.number + 1
        rng = Random(f"{self.life.seed}/{self.base}/{number}")
        run = Run(self.life, f"{self.base}r{number}", self.journal, rng, number, base=self.base)
        run.steps, run.names = self.steps, self.names
        if number < 2 and rng.random() < 0.4:
            run.dies_at = rng.choice((rng.uniform(0, 5), rng.uniform(0, 120), rng.uniform(0, 1500)))
        if rng.random() < 0.3:
            run.steps = [("sweep", "container", "", 1)]
        return run

    def describe(self) -> str:
        """Return one line for the story."""
        steps = ", ".join(f"{action} {kind} {name}" for action, kind, name, _ in self.steps)
        ends = f", killed {self.dies_at:.1f} s after its start" if self.is_killed and self.dies_at else ""
        return f"{self.name} journal={self.journal and self.journal.name}: {steps or 'sweep'}{ends}"

    def doing(self) -> str:
        """Return the verbs that have not returned yet."""
        return ", ".join(f"{what} since {since:.0f} s" for what, since in self.active.values()) or "close"

    # The process

    async def main(self) -> None:
        """Open a session, run every step in a task, and close."""
        rng, life = self.rng, self.life
        wire: Wire = self.wire if life.sabotage is None else life.sabotage(self.wire)
        session = Session(
            "key-1234567890",
            wire=wire,
            rate=RateLimit(1000, 1000) if rng.random() < 0.7 else None,
            timeout=10,
            journal=self.journal,
            close_timeout=CLOSE_TIMEOUT,
            deploy=DeployPolicy(settle=life.settle, watch=life.watch, max_posts=life.max_posts),
        )
        closing = None
        try:
            async with session as fluence:
                try:
                    await (self._sweep_once(fluence) if self.is_cron else self._steps(fluence))
                finally:
                    closing = self.now
        except CustodyError as error:
            self._note(error, keep=True)
            self.books.custody |= {ref.id for ref in error.refs}
            life.cloud.note(self.name, f"CustodyError {error}")
        except FluenceError as error:
            life.cloud.note(self.name, f"session: {type(error).__name__} {error}")
        except asyncio.CancelledError:
            if not self.is_killed:
                life.blame("raised", f"{self.name}: CancelledError out of the session's own block")
        except Stuck:
            raise
        except BaseException as error:
            if not (self.is_killed or isinstance(error, StrangeError)):
                life.blame("raised", f"{self.name}: {_text(error)} out of the session's block")
        if self.is_killed:
            return
        custody = session.custody
        self.books.named |= {ref.id for ref in (*custody.lost, *custody.ending)}
        self.books.names |= {*custody.uncertain, *custody.deploying}
        if closing is not None and self.now - closing > CLOSE_TIMEOUT + SPARE:
            life.blame("hang", f"{self.name}: the close took {self.now - closing:.0f} s")
        life.cloud.note(self.name, "closed")

    async def _steps(self, fluence: Session) -> None:
        rng, kinds = self.rng, self.life.kinds
        tasks = []
        for action, kind, name, size in self.steps:
            task = asyncio.ensure_future(self._step(fluence, action, kind, name, size))
            tasks.append(task)
            if "cancel" in kinds and rng.random() < 0.4:
                after = rng.choice((rng.uniform(0, 1), rng.uniform(0, 60), rng.uniform(0, 1000)))
                asyncio.get_running_loop().call_later(after, self._cancel, task, action, name)
        limit = rng.uniform(1, 1500) if "leave" in kinds and rng.random() < 0.5 else LONGEST
        await asyncio.wait(tasks, timeout=limit)
        for task in tasks:
            if not task.done():
                self._cancel_task(task)
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _cancel(self, task: asyncio.Task[None], action: str, name: str) -> None:
        if not task.done() and not self.is_killed:
            self.life.cloud.note(self.name, f"cancel {action} {name}")
            self._cancel_task(task)

    def _cancel_task(self, task: asyncio.Task[None]) -> None:
        """Cancel one step. From now on the instances of a `keep` run on, even if the process dies next."""
        self.books.kept |= self.keeping.get(task, set())
        task.cancel()

    async def _step(self, fluence: Session, action: str, kind: str, name: str, size: int) -> None:
        specs = [make_spec(kind, name if size == 1 else f"{name}-{index}") for index in range(size)]
        rng = Random(f"{self.life.seed}/{self.name}/{name}/{action}")
        for attempt in range(3 if action in ("hold", "ensure") else 1):
            try:
                await self.life.actions[action](self, fluence, specs if action == "batch" else specs[0], rng)
            except FluenceError as error:
                self.life.cloud.note(self.name, f"{action} {name}: {type(error).__name__} {str(error)[:150]}")
                if isinstance(error, UncertainDeployError) or rng.random() < 0.5 or attempt == 2:
                    return
                await asyncio.sleep(rng.uniform(0, 60))
            except StrangeError:
                return
            except Exception as error:
                if not self.is_killed:
                    self.life.blame("raised", f"{self.name}: {action} {name}: {_text(error)}")
                return
            else:
                self.life.cloud.note(self.name, f"{action} {name}: done")
                return

    async def _sweep_once(self, fluence: Session) -> None:
        limit = None if self.name == "final" else LONGEST
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await sweep(self, fluence, None, self.rng)

    # Knowledge of the callers

    def hold(self, ref: InstanceRef | None, *, adopt: bool = False) -> Hold:
        """Record that the caller received `ref`."""
        if self.is_killed:
            raise asyncio.CancelledError
        assert ref is not None
        row = self.life.cloud.rows.get(ref.id)
        if row is None:
            self.life.blame("raised", f"{self.name} was handed {ref}, which the service does not have")
        elif row.by == "console" and not adopt:
            self.life.blame("foreign", f"{self.name} was handed {_title(row)}")
        hold = next((hold for hold in self.books.holds if hold.ref.id == ref.id), None)
        if hold is None:
            hold = Hold(ref, self.now)
            self.books.holds.append(hold)
        self.life.cloud.note(self.name, f"  holds {ref.name} [{ref.id[:8]}]")
        return hold

    async def verb(
        self, what: str, call: Awaitable[Any], *, timeout: float | None, keep: bool = False, name: str = ""
    ) -> Any:
        """Await one public verb, and record its result."""
        key = id(call)
        began = self.now
        self.active[key] = (what, began)
        posts = len(self.life.cloud.posts)
        try:
            return await call
        except FluenceError as error:
            self._note(error, keep=keep)
            sent = [posted for by, _, posted in self.life.cloud.posts[posts:] if by == self.name]
            if isinstance(error, ConfigError) and name in sent and not self.is_killed:
                self.life.blame("raised", f"{self.name}: {what}: {_text(error)} after a POST")
            raise
        except (asyncio.CancelledError, StrangeError):
            if keep and name and not self.is_killed:
                self.books.kept.add(name)
            raise
        finally:
            del self.active[key]
            if timeout is not None and self.now - began > timeout + SPARE and not self.is_killed:
                self.life.blame(
                    "hang", f"{self.name}: {what} took {self.now - began:.0f} s, timeout {timeout:g} s"
                )

    def _note(self, error: FluenceError, *, keep: bool) -> None:
        """Record the instances that `error` names as possibly running."""
        books = self.books
        if isinstance(error, UncertainDeployError):
            books.names.add(error.name)
            books.named |= {ref.id for ref in error.candidates}
        if isinstance(error, CustodyError):
            books.named |= {ref.id for ref in error.refs}
            books.names |= set(error.names)
            books.names |= {name for each in error.names for name in self._names_like(each)}
        if isinstance(error, LaunchError):
            self.note_outcomes(error.report.outcomes)
        if isinstance(error, LifecycleError) and keep and error.ref is not None:
            books.named.add(error.ref.id)

    def _names_like(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`. An error names a launch by the common prefix."""
        for row in self.life.cloud.rows.values():
            if row.by == self.name and len(prefix) > 2 and row.name.startswith(prefix):
                yield row.name

    def note_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Record the instances that a report names as possibly running."""
        for outcome in outcomes:
            if outcome.status is LaunchState.UNKNOWN:
                self.books.names.add(outcome.spec.name)
            if isinstance(outcome.error, UncertainDeployError):
                self._note(outcome.error, keep=True)


# --- the actions -------------------------------------------------------------------------------------------


def make_spec(kind: str, name: str) -> Any:
    """Return a spec that the second service accepts."""
    if kind == "container":
        return ContainerSpec(name=name, plan_id=PLAN, image=IMAGE, expose=[22], ssh_key=SSH_KEY)
    make: Any = VMSpec if kind == "vm" else BareMetalSpec
    return make(name=name, plan_id=PLAN, ssh_key=SSH_KEY, os_image=OS_IMAGE)


def resource_of(fluence: Session, spec: Any) -> Any:
    """Return the endpoints of the spec's kind."""
    kinds = {"container": fluence.containers, "vm": fluence.vms, "baremetal": fluence.baremetal}
    return kinds[spec.kind.value]


async def hold(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Deploy, wait, and hold the instance for ever."""
    await _hold(run, fluence, spec, rng)


async def _hold(run: Run, fluence: Session, spec: Any, rng: Random) -> Hold:
    timeout = rng.choice((200.0, 900.0, 1800.0))
    keep = rng.random() < 0.3
    until = rng.choice((Until.ACTIVE, Until.ACTIVE, Until.READY))
    run.calls[spec.name] = run.calls.get(spec.name, 0) + 1
    call = fluence.deploy_and_wait(
        spec, until=until, timeout=timeout, on_failure="keep" if keep else "terminate"
    )
    try:
        instance = await run.verb(
            f"deploy_and_wait {spec.name}", call, timeout=timeout, keep=keep, name=spec.name
        )
    except UncertainDeployError as error:
        if rng.random() < 0.4 and (ref := await run.verb("resolve", error.resolve(), timeout=None)):
            return run.hold(ref)
        raise
    except LifecycleError as error:
        if keep and error.ref is None and isinstance(error, WaitTimeoutError):
            run.books.names.add(spec.name)  # WaitTimeoutError: "it may still be created, and runs on"
        if keep and error.ref is not None:
            held = run.hold(error.ref)
            if rng.random() < 0.5:
                await _end(run, fluence, held, rng)
        raise
    return run.hold(instance.ref)


async def rent(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Deploy, use the instance for a while, and wait for its end."""
    held = await _hold(run, fluence, spec, rng)
    await asyncio.sleep(rng.uniform(0, 400))
    await _end(run, fluence, held, rng)


async def _end(run: Run, fluence: Session, held: Hold, rng: Random) -> None:
    held.free = run.now
    timeout = rng.choice((300.0, 900.0, 3600.0))
    call = fluence.terminate_and_wait(held.ref, timeout=timeout)
    await run.verb(f"terminate_and_wait {held.ref.name}", call, timeout=timeout)
    held.gone = True


async def bare(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Call the endpoint's own deploy, and wait."""
    run.calls[spec.name] = run.calls.get(spec.name, 0) + 1
    call = resource_of(fluence, spec).deploy(spec)
    ref = await run.verb(f"deploy {spec.name}", call, timeout=None, name=spec.name)
    run.hold(ref)
    if rng.random() < 0.7:
        await run.verb(f"wait {spec.name}", fluence.wait(ref, timeout=900), timeout=900)


async def endpoint(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Deploy, then call the endpoint's own DELETE, list and get."""
    held = await _hold(run, fluence, spec, rng)
    await asyncio.sleep(rng.uniform(0, 300))
    resource = resource_of(fluence, spec)
    with contextlib.suppress(FluenceError):
        await run.verb("list", resource.list(), timeout=None)
    held.free = run.now
    # The raw endpoint does not verify the effect of a 204. The program stays responsible for the instance.
    await run.verb(f"terminate {spec.name}", resource.terminate(held.ref.id), timeout=None)


async def ensure(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Adopt the live instance of that name, or deploy a new one."""
    until = rng.choice((None, Until.ACTIVE))
    run.calls[spec.name] = run.calls.get(spec.name, 0) + 1
    call: Any = fluence.ensure(spec, until=until, timeout=900)
    got = await run.verb(f"ensure {spec.name}", call, timeout=900, keep=True, name=spec.name)
    run.hold(got.ref, adopt=True)


async def running(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Enter a `running` block and leave it."""
    run.calls[spec.name] = run.calls.get(spec.name, 0) + 1
    began = run.now
    timeout = rng.choice((300.0, 900.0, 1800.0))
    held: Hold | None = None
    key = id(spec)
    run.active[key] = (f"running {spec.name}", began)
    try:
        async with fluence.running(spec, timeout=timeout) as instance:
            held = run.hold(instance.ref)
            if run.now - began > timeout + SPARE:
                run.life.blame(
                    "hang", f"{run.name}: running {spec.name} took {run.now - began:.0f} s to enter"
                )
            try:
                await asyncio.sleep(rng.uniform(0, 400))
            finally:
                held.free = run.now
        held.gone = True
    except BaseException as error:
        if isinstance(error, FluenceError):
            run._note(error, keep=False)
        if held is not None:
            held.gone = True  # the session is responsible for the instance
        raise
    finally:
        del run.active[key]
        late = run.now - held.free if held is not None and held.free is not None else 0.0
        if late > GONE_WITHIN + SPARE and not run.is_killed:
            run.life.blame("hang", f"{run.name}: running {spec.name} took {late:.0f} s to leave")


async def batch(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Deploy several instances, with or without a quorum, as a whole or outcome by outcome."""
    specs: Sequence[Any] = spec
    for each in specs:
        run.calls[each.name] = run.calls.get(each.name, 0) + 1
    timeout = rng.choice((300.0, 900.0, 1800.0))
    quorum = rng.choice((None, 1, len(specs)))
    keep = rng.random() < 0.3
    options: dict[str, Any] = {
        "timeout": timeout,
        "min_ready": quorum,
        "on_failure": "keep" if keep else "terminate",
    }
    if keep:
        run.keeping[asyncio.current_task()] = {each.name for each in specs}
    try:
        if rng.random() < 0.6:
            call = fluence.deploy_all_and_wait(specs, **options)
            try:
                report = await run.verb(f"deploy_all_and_wait {specs[0].name}", call, timeout=timeout)
            except LaunchError as error:
                for outcome in error.report.ready if keep else ():
                    run.hold(outcome.ref)
                raise
            for outcome in report.ready:
                run.hold(outcome.ref)
            run.note_outcomes(report.outcomes)
            return
        enough = rng.randint(1, len(specs))
        launch = fluence.launch(specs, **options)
        try:
            async with launch:
                async for outcome in launch:
                    if outcome.status is LaunchState.ACTIVE:
                        run.hold(outcome.ref)
                        enough -= 1
                    if not enough:
                        break
        except LaunchError as error:
            run._note(error, keep=keep)
            raise
        finally:
            run.note_outcomes(launch.report.outcomes)
            for outcome in launch.report.ready if keep and not run.is_killed else ():
                run.hold(outcome.ref)  # still running after the block
    except StrangeError:  # ends the launch like a cancellation
        if keep:
            run.books.kept |= {each.name for each in specs}
        raise
    finally:
        run.keeping.pop(asyncio.current_task(), None)


async def update(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Deploy a container and update it."""
    held = await _hold(run, fluence, spec, rng)
    for number in range(rng.randint(1, 2)):
        await asyncio.sleep(rng.uniform(0, 200))
        new = ContainerUpdate(name=spec.name, image=f"ubuntu:24.0{number}")
        call = fluence.update_and_wait(held.ref, new, timeout=900)
        await run.verb(f"update_and_wait {spec.name}", call, timeout=900)


async def sweep(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Sweep the journal."""
    report = await run.verb("sweep", fluence.sweep(dry_run=False), timeout=None)
    run.life.cloud.note(run.name, f"sweep: {report}")
    run.books.named |= {ref.id for ref in report.left}
    if run.name == "final":  # unproven entries stay open in the journal, and each sweep reports them
        run.books.names |= set(report.unsettled)


async def prefix(run: Run, fluence: Session, spec: Any, rng: Random) -> None:
    """Sweep the program's own names, as a program does at its start or occasionally."""
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 900))))
    for other in run.life.runs:  # earlier runs of this program are dead, and their instances may be ended
        if other.base == run.base and other is not run:
            for held in other.books.holds:
                held.free = held.free or run.now
    call = fluence.sweep(prefix=f"{run.base}-", dry_run=False)
    report = await run.verb("sweep of a prefix", call, timeout=None)
    run.life.cloud.note(run.name, f"sweep of a prefix: {report}")


ACTIONS: Final[Mapping[str, Action]] = {
    "hold": hold,
    "rent": rent,
    "bare": bare,
    "endpoint": endpoint,
    "ensure": ensure,
    "running": running,
    "batch": batch,
    "update": update,
    "sweep": sweep,
    "prefix": prefix,
}


# --- tools -------------------------------------------------------------------------------------------------


class _Disk:
    """The journal at the moment of its process's death: the same file, with the same content."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._files: dict[Path, bytes] = {}
        if path is not None:
            for file in path.parent.glob(f"{path.name}*"):
                os.link(file, file.with_name(f".saved-{file.name}"))
                self._files[file] = file.read_bytes()

    def restore(self) -> None:
        """Undo every write since that moment."""
        if self._path is None:
            return
        for file in self._path.parent.glob(f"{self._path.name}*"):
            if file not in self._files:
                file.unlink()
        for file, content in self._files.items():
            saved = file.with_name(f".saved-{file.name}")
            if saved.read_bytes() != content:
                saved.write_bytes(content)
            os.replace(saved, file)
            saved.unlink(missing_ok=True)  # renaming a link over another link of the same file has no effect


def _title(row: Row) -> str:
    return f"{row.kind} {row.name} [{row.id[:8]}]"


def _text(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {str(error)[:200]} ({where})"


def _fold(log: Sequence[tuple[float, str, str]]) -> list[str]:
    """Return the timeline. Repeated GETs are merged into one line."""
    lines: list[str] = []
    last: dict[tuple[str, str], int] = {}
    for when, run, text in log:
        key = (run, text)
        if text.startswith("GET"):
            last[key] = last.get(key, 0) + 1
            if last[key] > 2:
                continue
        else:
            for (by, poll), times in list(last.items()):
                if by == run:
                    if times > 2:
                        lines.append(f"{when:9.1f} {run:>6}     (x{times} {poll})")
                    del last[by, poll]
        lines.append(f"{when:9.1f} {run:>6} {text}")
    return lines


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the log and stderr, because dying sessions complain rightly."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _watchdog() -> Iterator[None]:
    """Raise `Stuck` after `CPU_SECONDS` or `REAL_SECONDS`, where the system can."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_stuck(*_: object) -> None:
        raise Stuck

    timers = (
        (signal.ITIMER_VIRTUAL, signal.SIGVTALRM, CPU_SECONDS),
        (signal.ITIMER_REAL, signal.SIGALRM, REAL_SECONDS),
    )
    before = [(number, signal.signal(number, raise_stuck)) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in before:
            signal.signal(number, handler)


def run_life(seed: int, kinds: Iterable[str] | None = None, **options: Any) -> Verdict:
    """Run one life and return its verdict."""
    return Life(seed, kinds, **options).live()


def main(arguments: Sequence[str]) -> int:
    """Run the lives of the given seeds. Return 1 if one breaks a promise."""
    kinds = None
    given = list(arguments)
    for option in {"--kinds", "--without"} & set(given):
        at = given.index(option)
        kinds = given[at + 1].split(",")
        if unknown := set(kinds) - set(KINDS):
            sys.stderr.write(f"unknown kinds: {unknown}; known: {', '.join(KINDS)}\n")
            return 2
        if option == "--without":
            kinds = [kind for kind in KINDS if kind not in kinds]
        del given[at : at + 2]
    verbose = "-v" in given
    seeds = [int(text) for text in given if text != "-v"]
    failed = False
    for seed in seeds:
        verdict = run_life(seed, kinds)
        failed |= bool(verdict.violations)
        if verbose or verdict.violations:
            sys.stdout.write(f"{verdict.story}\n")
        sys.stdout.write(
            f"life {seed}: {len(verdict.violations)} violations, {verdict.seconds:.2f} s, {verdict.counts}\n"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
