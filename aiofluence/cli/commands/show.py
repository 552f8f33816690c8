"""`ls`, `show`, `wait`, `ssh` and `inventory`: running instances, their state, and access to them.

None of these commands deploys, changes or ends anything.
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import aiofluence

from ...models.values import Kind, Status
from ..ages import ServiceTime
from ..arguments import Argument, Exit, Option, UsageError
from ..console import note, print_json, print_table, say
from ..exit_codes import REACHED, USAGE, CommandError, explain
from ..json_output import Json, instance_shape, ref_shape
from ..lookup import choose_all, find_all, find_one, get_detail, list_all
from ..options import (
    IdentityOption,
    JsonOption,
    KindOption,
    NameArgument,
    NamesArgument,
    TimeoutOption,
    UntilOption,
    UserOption,
    WideOption,
    timeout_of,
)
from ..runner import execute, run_in_session, worst

if TYPE_CHECKING:  # imported on demand, since help and completion do not need them
    from ...models.instances import Instance, InstanceRef, Summary

_WATCH_INTERVAL: Final = 5.0

InventoryFormat: TypeAlias = Literal["ssh", "ansible", "dask", "ray", "skypilot", "json"]

PrefixOption: TypeAlias = Annotated[str | None, Option(metavar="TEXT", help="Only names with this prefix.")]


def ls(
    kind: KindOption = None,
    prefix: PrefixOption = None,
    everything: Annotated[bool, Option("--all", "-a", help="Also instances that have ended.")] = False,
    cost: Annotated[
        bool, Option("--cost", help="Show prices and spending: one request per instance.")
    ] = False,
    check: Annotated[
        bool, Option("--check", help="Show if containers run or crash: one request per container.")
    ] = False,
    watch: Annotated[
        bool, Option("--watch", help="Refresh every 5 seconds until Ctrl-C. In a pipe: print what changes.")
    ] = False,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the account's live instances, oldest first.

    SPENT includes the hours that begin before the service can end a machine: it refuses for 20 minutes.
    --wide shows whole ids.

    Examples:
        aiofluence ls --cost --prefix exp-
        aiofluence ls --watch
    """
    if watch and as_json:
        raise UsageError("--watch and --json exclude each other")
    from ..instance_text import list_columns, list_row, list_shape, total_row

    time = ServiceTime()

    async def listed(fluence: aiofluence.Session) -> tuple[Sequence[Summary], dict[str, str]]:
        rows: Sequence[Summary] = await _listed(fluence, kind, prefix, everything)
        if not (cost or check):
            return rows, {}
        from ..conditions import find_conditions

        asked = [row.ref for row in rows if cost or _may_crash(row)]
        details = {one.id: one for one in await _details(fluence, asked)}
        words = await find_conditions(fluence, details.values())
        return [details.get(row.id, row) for row in rows], words

    def table(rows: Sequence[Summary], words: Mapping[str, str]) -> list[Sequence[str]]:
        return [
            *(list_row(row, time, words, cost=cost, wide=wide) for row in rows),
            *([total_row(rows, time)] if cost and rows else []),
        ]

    async def show_all(fluence: aiofluence.Session) -> None:
        rows, words = await listed(fluence)
        if as_json:
            print_json([list_shape(row, words) for row in rows])
        elif rows:
            print_table(list_columns(cost), table(rows, words), wide=wide)
        else:
            note("Nothing there." if everything else "Nothing is running.")

    async def show_changes(fluence: aiofluence.Session) -> None:
        seen: set[Sequence[str]] = set()
        while True:
            rows, words = await listed(fluence)
            if sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
                print_table(list_columns(cost), table(rows, words), wide=wide)
            else:
                lines = [list_row(row, time, words, cost=False, wide=True) for row in rows]
                lines = [(*line[:5], line[-1]) for line in lines]  # without the age, which always changes
                for line in lines:
                    if line not in seen:
                        say("  ".join(filter(None, line)))
                gone = {line[-1] for line in seen} - {line[-1] for line in lines}
                for old in [old for old in seen if old[-1] in gone]:
                    say("  ".join(filter(None, (*old[:2], "gone", *old[3:]))))
                seen = set(lines)
            await asyncio.sleep(_WATCH_INTERVAL)

    execute(show_changes if watch else show_all, on_reply=time.note)


def _may_crash(row: Summary) -> bool:
    return row.kind is Kind.CONTAINER and row.status is Status.ACTIVE


async def _listed(
    fluence: aiofluence.Session, kind: Kind | None, prefix: str | None, everything: bool = False
) -> list[Summary]:
    rows = await list_all(fluence, tuple(Kind) if kind is None else (kind,))
    return [
        row
        for row in rows
        if (everything or not row.status.final) and (prefix is None or row.name.startswith(prefix))
    ]


async def _details(fluence: aiofluence.Session, refs: Sequence[InstanceRef]) -> list[Instance]:
    return list(await asyncio.gather(*(get_detail(fluence, ref) for ref in refs)))


def show(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show one instance: costs, access, configuration."""
    from ..conditions import find_conditions
    from ..instance_text import show_instance

    time = ServiceTime()

    async def show_one(fluence: aiofluence.Session) -> None:
        instance = await get_detail(fluence, await find_one(fluence, name))
        words = {} if as_json else await find_conditions(fluence, [instance])
        show_instance(instance, as_json, time, words.get(instance.id))

    execute(show_one, on_reply=time.note)


def wait(
    names: NamesArgument,
    until: UntilOption = "active",
    timeout: TimeoutOption = 900.0,
    as_json: JsonOption = False,
) -> None:
    """Wait until instances reach the state of --until. Ends nothing, whatever happens."""

    async def wait_all(fluence: aiofluence.Session) -> int:
        refs = await find_all(fluence, names)
        awaited = until, timeout_of(timeout)
        outcomes = await asyncio.gather(*(_wait(fluence, ref, *awaited) for ref in refs))
        shapes: list[Json] = []
        codes = []
        for ref, outcome in zip(refs, outcomes, strict=True):
            failed = isinstance(outcome, Exception)
            codes.append(explain(outcome) if isinstance(outcome, Exception) else REACHED)
            shapes.append(
                {
                    **ref_shape(ref),
                    "reached": not failed,
                    "error": type(outcome).__name__ if failed else None,
                    "instance": None if isinstance(outcome, Exception) else instance_shape(outcome),
                }
            )
            if not failed and not as_json:
                say(f"{ref.name} is {until}")
        if as_json:
            print_json(shapes)
        return worst(*codes)

    execute(wait_all)


async def _wait(
    fluence: aiofluence.Session, ref: InstanceRef, until: str, timeout: float | None
) -> Instance | aiofluence.FluenceError:
    try:
        return await fluence.wait(ref, until=until, timeout=timeout)
    except aiofluence.FluenceError as error:
        return error


def ssh(
    name: NameArgument,
    command: Annotated[
        list[str] | None, Argument(metavar="COMMAND", help="Command to run there, or options for ssh.")
    ] = None,
    only_print: Annotated[bool, Option("--print", help="Only print the command.")] = False,
    user: UserOption = None,
    identity: IdentityOption = None,
    as_json: JsonOption = False,
) -> None:
    """Log in to an instance with ssh, and exit with its code. With --json, only print the command."""
    from ...models.ssh import SshAccess, is_user, ssh_access, why_no_access

    found: list[str] = []

    async def find(fluence: aiofluence.Session) -> None:
        instance = await get_detail(fluence, await find_one(fluence, name))
        if ssh_access(instance) is None and instance.status is Status.ACTIVE and not instance.network:
            note(f"Waiting until {instance.name} is ready.")
            instance = await fluence.wait(instance, until="ready")
        access = ssh_access(instance)
        if access is None:
            raise CommandError(f"{instance.ref}: {why_no_access(instance)}")
        if user is not None:
            if not is_user(user):
                raise CommandError(f"{user!r} is not the name of a user", USAGE)
            access = SshAccess(user, access.host, access.port)
        program, *rest = access.command
        key = ["-i", identity] if identity is not None else []
        found.extend([program, *key, *rest, *(command or ())])

    code = run_in_session(find)
    if code == REACHED and as_json:
        print_json({"command": found})
    elif code == REACHED and only_print:
        print(shlex.join(found))
    elif code == REACHED:
        try:
            code = subprocess.run(found, check=False).returncode
        except FileNotFoundError:
            code = explain(CommandError("there is no ssh on this machine; --print shows the command"))
    raise Exit(code)


def inventory(
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="NAME", help="Names, patterns or ids. Default: all live instances.", complete="instance"
        ),
    ] = None,
    format: Annotated[InventoryFormat, Option("--format", help="Format of the output.")] = "ssh",
    kind: KindOption = None,
    prefix: PrefixOption = None,
    user: UserOption = None,
    identity: IdentityOption = None,
    as_json: Annotated[bool, Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Export live instances for other tools.

    As SSH configuration, Ansible inventory, Dask hostfile, Ray cluster, SkyPilot pool or JSON. Instances that
    have no address yet, or do not fit the format, are named on stderr.
    """

    from ...inventory import make_inventory

    async def make(fluence: aiofluence.Session) -> None:
        rows = await _listed(fluence, kind, prefix, everything=bool(names))
        refs = choose_all(rows, names) if names else [row.ref for row in rows]
        details = await _details(fluence, refs)
        try:
            made = make_inventory(details, "json" if as_json else format, user=user, identity_file=identity)
        except ValueError as error:
            raise CommandError(str(error), USAGE) from None
        print(made.text, end="", flush=True)
        for line in made.notes:
            note(f"aiofluence: {line}")

    execute(make)
